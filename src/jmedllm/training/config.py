"""Settings that both training stages share: optimization and validation."""

from importlib.util import find_spec
from typing import Annotated, Literal

from pydantic import Field, model_validator

from jmedllm.errors import InputError, not_installed
from jmedllm.settings import Settings
from jmedllm.training.early_stopping import EarlyStopping

Beta = Annotated[float, Field(ge=0, lt=1)]

WeightFormatName = Literal["float32", "bfloat16-master", "bfloat16-stochastic"]
ActivationCheckpointing = Literal["none", "recompute", "offload"]
CpuOffload = Literal["none", "optimizer", "layers"]
OptimizerName = Literal["adamw", "adamw-bf16", "adamw-8bit"]


class TrainingConfig(Settings):
    """Training settings of a stage. Give either `steps` or `epochs`."""

    steps: int | None = Field(None, ge=1, description="optimizer steps")
    epochs: float | None = Field(None, gt=0, description="passes over the packed rows")
    learning_rate: float = Field(gt=0, description="peak, reached after the warm-up")
    batch_size: int = Field(16, ge=1, description="packed rows per optimizer step")
    micro_batch_size: int = Field(1, ge=1, description="packed rows per forward pass; lower it when memory is short")
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="share of the steps until the peak")
    weight_decay: float = Field(0.0, ge=0, description="on matrices only")
    betas: tuple[Beta, Beta] = Field((0.9, 0.95), strict=False)
    max_grad_norm: float | None = Field(1.0, gt=0, description="largest global norm of the gradient; null: any")
    router_aux_loss_coef: float | None = Field(
        None, ge=0, description="weight of the load-balancing loss of experts; default: as in the base's config"
    )
    weight_format: WeightFormatName = Field(
        "float32", description="format of the trained weights; see docs/training/weights.md"
    )
    optimizer: OptimizerName = Field("adamw", description="AdamW with moments in 32, 16 or 8 bits; 8 bits need [gpu]")
    activation_checkpointing: ActivationCheckpointing = Field(
        "none", description="recompute or offload: less memory, a third slower"
    )
    cpu_offload: CpuOffload = Field(
        "none", description="keep and step this in host memory; see docs/training/offload.md"
    )
    optimizer_in_backward: bool = Field(False, description="update each weight as soon as its gradient is computed")
    save_steps: int = Field(200, ge=1, description="steps between checkpoints")
    early_stopping: EarlyStopping = EarlyStopping()
    tensorboard: bool = Field(False, description="write event files too; needs [tensorboard]")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingConfig":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        return self

    @model_validator(mode="after")
    def _possible_together(self) -> "TrainingConfig":
        if reason := _contradiction(self):
            raise ValueError(reason)
        return self

    def total_steps(self, rows: int) -> int:
        """Return the number of optimizer steps over `rows` packed rows, at least 1."""
        return self.steps or max(1, round((self.epochs or 0) * rows / self.batch_size))


def _contradiction(settings: TrainingConfig) -> str | None:
    if settings.cpu_offload != "none" and settings.weight_format != "bfloat16-master":
        return "cpu_offload steps float32 copies of the weights in host memory; set weight_format: bfloat16-master"
    if settings.cpu_offload == "layers" and settings.activation_checkpointing == "none":
        return (
            "cpu_offload: layers fetches a layer again for its backward pass, which computes it again too; set "
            "activation_checkpointing: recompute"
        )
    if not settings.optimizer_in_backward:
        return None
    if settings.cpu_offload != "none":
        return "optimizer_in_backward steps where the weights are; set cpu_offload: none"
    if settings.max_grad_norm is not None:
        return "optimizer_in_backward uses up each gradient before the norm of all is known; set max_grad_norm: null"
    if settings.micro_batch_size < settings.batch_size:
        return (
            "optimizer_in_backward uses up each gradient at once and cannot add up micro-batches; set "
            f"micro_batch_size to {settings.batch_size}, as batch_size, or lower batch_size"
        )
    return None


def require_possible(settings: TrainingConfig, precision: str) -> None:
    """Check the settings that depend on the machine, before anything is loaded.

    Args:
        settings: settings of one stage.
        precision: dtype of the matrix products, bfloat16 or float32.

    Raises:
        InputError: a library is missing, or precision and weight format do not fit together.
    """
    if settings.optimizer == "adamw-8bit" and find_spec("bitsandbytes") is None:
        raise not_installed("optimizer adamw-8bit", "bitsandbytes")
    if reason := clash(settings.weight_format, precision):
        raise InputError(reason)


def require_shardable(settings: TrainingConfig, *, benchmarks: bool) -> None:
    """Refuse settings that do not support sharded weights.

    Args:
        settings: settings of one stage.
        benchmarks: whether validation includes benchmarks.

    Raises:
        InputError: such a setting is set.
    """
    if benchmarks:
        raise InputError("validation on benchmarks needs one process; leave validation.benchmarks out")
    if settings.optimizer == "adamw-8bit":
        raise InputError("optimizer adamw-8bit uses blocks that do not match the shards; use adamw")
    if settings.cpu_offload != "none" or settings.optimizer_in_backward:
        raise InputError("cpu_offload and optimizer_in_backward need one process; several share the optimizer's state")
    if settings.weight_format != "float32":
        raise InputError(
            "several processes gather float32 weights in bfloat16, which saves what "
            f"{settings.weight_format} would; use weight_format float32"
        )


def clash(weight_format: WeightFormatName, precision: str) -> str | None:
    """Explain why weights in this format cannot be multiplied in `precision`, with the fix; None if they can."""
    if weight_format == "float32" or precision != "float32":
        return None
    return (
        f"weight_format {weight_format} keeps bfloat16 weights, which cannot be multiplied in float32; set "
        "precision: bfloat16 or weight_format: float32"
    )


class ValidationConfig(Settings):
    """What validation measures during training, in both stages; `early_stopping` configures when."""

    held_out: float = Field(
        0.0, ge=0, le=0.5, description="share of documents never trained on, by the hash of their text"
    )
    texts: dict[str, list[str]] = Field(
        {}, description="name of a set, such as ja, en, general → files or folders of further held-out text"
    )
    max_bytes: int = Field(200_000, ge=1_000, description="UTF-8 bytes read of each set at most, in whole documents")
    benchmarks: list[str] = Field(
        [], description="benchmarks or .jsonl files to evaluate by likelihood; NAME:ja for one language"
    )
    split: str = Field("test", description="split of the benchmarks")
    limit: int = Field(50, ge=1, description="items of each benchmark and language")

    @model_validator(mode="after")
    def _something(self) -> "ValidationConfig":
        if not (self.held_out or self.texts or self.benchmarks):
            raise ValueError("nothing to measure; give held_out, texts or benchmarks")
        return self
