"""Inputs, checks, training and outputs that the training stages share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.models.weights.quantization import quantization_in, require_trainable_weights
from jmedllm.planning.plan import TrainingStage
from jmedllm.processes import rank
from jmedllm.recipe import AdapterTrainingConfig, Recipe
from jmedllm.stages.base_files import BaseFiles, PublishedBase
from jmedllm.stages.stage import Outputs, Run
from jmedllm.stages.validation import open_validation, require_measurable, require_validation_texts
from jmedllm.training.config import TrainingConfig, require_possible, require_shardable
from jmedllm.training.packing import Blocks


@dataclass(frozen=True, kw_only=True)
class TrainingOutputs(Outputs):
    """Outputs of a stage that trains.

    Attributes:
        block_size: tokens of a packed row.
        final_loss: loss of the last step.
        best_step: step whose weights were kept, if `early_stopping` chooses them.
        memory: planned and measured memory, with `memory: auto`.
        evaluated: documents and bytes of each held-out set.
    """

    steps: int
    block_size: int
    trained_tokens: int
    final_loss: float
    best_step: int | None = None
    memory: dict[str, Any] | None = None
    evaluated: dict[str, dict[str, int]] | None = None


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """Inputs of a stage's training.

    Attributes:
        stage: name of the stage.
        load: loads the network onto a device, in the dtype in which it is trained.
    """

    stage: str
    settings: TrainingConfig
    folder: Path
    tokenizer: Any
    blocks: Blocks
    load: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A trained network and what its training gave."""

    network: Any
    outputs: TrainingOutputs


def train_stage(run: Run, job: TrainingJob, input_hash: str) -> TrainedNetwork | None:
    """Train the network and gather it in the main process; return None in the others.

    Raises:
        InputError: see `training.loop.train`.
    """
    from jmedllm.planning.auto import memory_of
    from jmedllm.training.distributed import shard
    from jmedllm.training.loop import TrainContext, train
    from jmedllm.training.preflight import preview_example

    validation = open_validation(run, job.tokenizer, job.blocks.ids.shape[1])
    preview_example(job.tokenizer, job.blocks, job.stage, text=run.previews_example)
    network, gather = shard(job.load, run.precision)
    context = TrainContext(job.stage, job.folder, run.precision, run.recipe.seed, input_hash, validation)
    trained = train(network, job.blocks, job.settings, context)
    memory = memory_of(run.recipe, run.folder, job.stage, run.precision.device)
    network = gather()
    if network is None:
        return None
    outputs = TrainingOutputs(
        steps=trained.steps,
        block_size=job.blocks.ids.shape[1],
        trained_tokens=trained.trained_tokens,
        final_loss=trained.final_loss,
        best_step=trained.best_step,
        memory=memory,
        evaluated=validation.sizes() if validation else None,
    )
    return TrainedNetwork(network, outputs)


def has_benchmarks(recipe: Recipe) -> bool:
    """Return whether validation includes benchmarks."""
    return bool(recipe.validation and recipe.validation.benchmarks)


def check_training(run: Run, settings: TrainingConfig) -> Sequence[str]:
    """Check that these processes can train with the settings, and that the recipe's validation can be measured.

    Raises:
        InputError: they cannot.
    """
    require_possible(settings, run.precision.name)
    if rank().world_size > 1:
        require_shardable(settings, benchmarks=has_benchmarks(run.recipe))
    require_measurable(run, settings.early_stopping)
    require_validation_texts(run)
    return ("settings", *(("validation",) if run.recipe.validation else ()))


def check_trainable(run: Run, base: BaseFiles, stage: TrainingStage) -> Sequence[str]:
    """Check that the base can be trained: its tokenizer, weights and class, its context, and the needed memory.

    Raises:
        InputError: it cannot be trained.
    """
    from jmedllm.training.experts import balance_coefficient

    require_trainable_weights(base.quantization, str(base.folder), adapter=_trains_adapter(stage))
    _require_architecture(run, base.config, stage)
    base.require_loadable()
    balance_coefficient(base.structure, stage.settings.router_aux_loss_coef)
    return ("base model", "tokenizer", *_check_machine(run, stage))


def check_architecture(run: Run, base: PublishedBase, stage: TrainingStage) -> Sequence[str]:
    """Check what `check_trainable` can check on the config of the base alone.

    Raises:
        InputError: it cannot be trained.
    """
    require_trainable_weights(quantization_in(base.values), base.name, adapter=_trains_adapter(stage))
    _require_architecture(run, base.config, stage)
    return ("architecture", "context")


def _trains_adapter(stage: TrainingStage) -> bool:
    return isinstance(stage.settings, AdapterTrainingConfig)


def _require_architecture(run: Run, config: Any, stage: TrainingStage) -> None:
    from jmedllm.models.backends.transformers.capabilities import context_length
    from jmedllm.training.trainable import choose_isolation

    choose_isolation(config, run.precision.device)
    if stage.block_size > (context := context_length(config)):
        raise InputError(
            f"{stage.name}: block_size {stage.block_size} is longer than the context of the base model, {context} "
            f"tokens; set at most {context}"
        )


def _check_machine(run: Run, stage: TrainingStage) -> Sequence[str]:
    from jmedllm.planning.machine import this_machine
    from jmedllm.planning.plan import base_of
    from jmedllm.planning.preflight import require_machine

    if run.recipe.memory == "auto":  # then `memory: auto` chooses settings that fit
        return ()
    base = replace(base_of(run.recipe), dtype=run.precision.dtype)
    is_checked = require_machine(stage, base, this_machine(run.precision.device), run.folder)
    return ("memory", "disk space") if is_checked else ()


_UNSHAPING = {
    "save_steps",
    "micro_batch_size",
    "activation_checkpointing",
    "cpu_offload",
    "offload_embedding",
    "tensorboard",
}


def shaping(settings: TrainingConfig) -> dict[str, Any]:
    """Return the settings that affect the result of training; others affect only speed, memory and rounding.

    With dropout, `micro_batch_size` also changes the masks. It is left out anyway, because lowering it after running
    out of memory must not discard the checkpoints.
    """
    return settings.model_dump(exclude=_UNSHAPING)


def numerics(run: Run) -> dict[str, Any]:
    """Return everything besides data, model and settings that affects the result of training."""
    return {"seed": run.recipe.seed, "precision": run.precision.name}
