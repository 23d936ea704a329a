"""Techniques that save memory in a stage, cheapest first."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from jmedllm.errors import InputError
from jmedllm.planning.machine import Machine
from jmedllm.planning.shape import Shape
from jmedllm.recipe import AdapterTrainingConfig
from jmedllm.training.config import TrainingConfig, clash, require_shardable


@dataclass(frozen=True, slots=True, eq=False)
class Technique:
    """A setting that needs less memory.

    Attributes:
        setting: as a recipe writes it.
        cost: in words.
        values: what it sets, by key; of a section within, only what changes.
    """

    setting: str
    cost: str
    values: dict[str, Any]


Techniques = tuple[Technique, ...]
"""Changes that are made together; all others stay as the recipe has them."""

RECOMPUTE = Technique(
    "activation_checkpointing: recompute", "about a third of the time", {"activation_checkpointing": "recompute"}
)
OFFLOAD_ACTIVATIONS = Technique(
    "activation_checkpointing: offload", "copies to the host and back", {"activation_checkpointing": "offload"}
)
ONE_ROW = Technique("micro_batch_size: 1", "time, where passes become small", {"micro_batch_size": 1})
BF16 = Technique("optimizer: adamw-bf16", "moments rounded to bfloat16", {"optimizer": "adamw-bf16"})
EIGHT_BITS = Technique("optimizer: adamw-8bit", "moments rounded to 8 bits", {"optimizer": "adamw-8bit"})
STOCHASTIC = Technique(
    "weight_format: bfloat16-stochastic",
    "what is trained, rounded to bfloat16",
    {"weight_format": "bfloat16-stochastic"},
)
MASTER = Technique(
    "weight_format: bfloat16-master", "no precision: steps stay in float32", {"weight_format": "bfloat16-master"}
)
OFFLOAD_OPTIMIZER = Technique(
    "cpu_offload: optimizer", "gradients pass the link; the CPU steps", {"cpu_offload": "optimizer"}
)
OFFLOAD_LAYERS = Technique("cpu_offload: layers", "weights pass the link too, twice a pass", {"cpu_offload": "layers"})
BACKWARD_OPTIMIZER = Technique(
    "optimizer_in_backward: true, max_grad_norm: null, batch_size: 1, micro_batch_size: 1",
    "changes the training: no accumulation, no clipping",
    {"optimizer_in_backward": True, "max_grad_norm": None, "batch_size": 1, "micro_batch_size": 1},
)
OFFLOAD_EMBEDDING = Technique("offload_embedding: true", "the CPU gathers its rows", {"offload_embedding": True})
NF4 = Technique("adapter: {quantization: nf4}", "the base rounded to 4 bits", {"adapter": {"quantization": "nf4"}})

_LEAN = (RECOMPUTE, ONE_ROW)
_MOMENTS: tuple[Techniques, ...] = ((), (BF16,), (EIGHT_BITS,))

MFPT: tuple[Techniques, ...] = (
    (RECOMPUTE,),
    _LEAN,
    (*_LEAN, BF16),
    (*_LEAN, EIGHT_BITS),
    (*_LEAN, EIGHT_BITS, STOCHASTIC),
    (OFFLOAD_ACTIVATIONS, ONE_ROW, BF16),  # where shards refuse what is above
    (OFFLOAD_ACTIVATIONS, ONE_ROW, EIGHT_BITS, STOCHASTIC),
    *(
        (*kept, *moments, MASTER, OFFLOAD_OPTIMIZER)
        for kept in (_LEAN, (OFFLOAD_ACTIVATIONS, ONE_ROW))
        for moments in _MOMENTS
    ),
    *(
        (*kept, *moments, MASTER, OFFLOAD_LAYERS)
        for kept in (_LEAN, (OFFLOAD_ACTIVATIONS, ONE_ROW))
        for moments in _MOMENTS
    ),
    (RECOMPUTE, EIGHT_BITS, STOCHASTIC, BACKWARD_OPTIMIZER),
)
_ADAPTERS: tuple[Techniques, ...] = (
    _LEAN,
    (*_LEAN, EIGHT_BITS),
    (*_LEAN, EIGHT_BITS, STOCHASTIC),
    (*_LEAN, EIGHT_BITS, NF4),
    (*_LEAN, EIGHT_BITS, STOCHASTIC, NF4),
    (OFFLOAD_ACTIVATIONS, ONE_ROW, EIGHT_BITS, STOCHASTIC, NF4),
)
MPEFT: tuple[Techniques, ...] = (
    (RECOMPUTE,),
    *((*way, *last) for way in _ADAPTERS for last in ((), (OFFLOAD_EMBEDDING,))),
)

_SAVING = {
    "activation_checkpointing": ("none", "recompute", "offload"),
    "optimizer": ("adamw", "adamw-bf16", "adamw-8bit"),
    "cpu_offload": ("none", "optimizer", "layers"),
}
"""Values of a setting, those that need less memory last."""


def techniques_of(settings: TrainingConfig) -> tuple[Techniques, ...]:
    """All ways there are for a stage."""
    return MPEFT if isinstance(settings, AdapterTrainingConfig) else MFPT


def apply_techniques(settings: TrainingConfig, way: Techniques) -> tuple[TrainingConfig, Techniques] | None:
    """The settings with a way's changes, and those changes that were not made yet.

    None where the settings would then contradict one another, or nothing has changed.
    """
    new = tuple(change for change in way if not _is_made(settings, change))
    values: dict[str, Any] = settings.model_dump()
    for change in new:
        values = _merge(values, change.values)
    try:
        return (type(settings).model_validate(values), new) if new else None
    except ValidationError:
        return None


def refusal(settings: TrainingConfig, precision: str, shape: Shape, machine: Machine, *, exam: bool) -> str | None:
    """Why a run on this machine would not begin, whatever its memory; None where it would.

    Args:
        settings: of a stage.
        precision: number format of the matrix products.
        shape: of the base.
        machine: of several processes, some can do less.
        exam: whether the stage is evaluated by an exam.
    """
    if reason := clash(settings.weight_format, precision):
        return reason
    if has_offloaded_embedding(settings) and not shape.head:
        return "the base's embedding shares its weights with the output head; set offload_embedding: false"
    if machine.processes > 1:
        try:
            require_shardable(settings, exam=exam)
        except InputError as error:
            return str(error)
    return None


def is_quantized(settings: TrainingConfig) -> bool:
    """Whether the base is quantized to 4 bits."""
    return isinstance(settings, AdapterTrainingConfig) and settings.adapter.quantization == "nf4"


def has_offloaded_embedding(settings: TrainingConfig) -> bool:
    """Whether the input embedding waits in host memory."""
    return isinstance(settings, AdapterTrainingConfig) and settings.offload_embedding


def _is_made(settings: TrainingConfig, change: Technique) -> bool:
    """Whether the settings have a change already, or one that saves more."""
    return all(_has(getattr(settings, key), value, key) for key, value in change.values.items())


def _has(found: Any, wanted: Any, key: str) -> bool:
    if key in _SAVING:
        return _SAVING[key].index(found) >= _SAVING[key].index(wanted)
    if isinstance(wanted, dict):
        return all(getattr(found, name) == value for name, value in wanted.items())
    return bool(found == wanted)


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return values | {
        key: _merge(values[key], value) if isinstance(value, dict) else value for key, value in changes.items()
    }
