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
        setting: line of a recipe.
        cost: description of the cost.
        values: values by key; of a nested section, only the changed ones.
    """

    setting: str
    cost: str
    values: dict[str, Any]


Techniques = tuple[Technique, ...]
"""Changes that are made together; all other settings stay as configured."""

RECOMPUTE = Technique(
    "activation_checkpointing: recompute", "about a third of the time", {"activation_checkpointing": "recompute"}
)
OFFLOAD_ACTIVATIONS = Technique(
    "activation_checkpointing: offload", "copies to the host and back", {"activation_checkpointing": "offload"}
)
ONE_ROW = Technique("micro_batch_size: 1", "slower if passes become small", {"micro_batch_size": 1})
BF16 = Technique("optimizer: adamw-bf16", "moments rounded to bfloat16", {"optimizer": "adamw-bf16"})
EIGHT_BITS = Technique("optimizer: adamw-8bit", "moments rounded to 8 bits", {"optimizer": "adamw-8bit"})
STOCHASTIC = Technique(
    "weight_format: bfloat16-stochastic",
    "trained weights rounded to bfloat16",
    {"weight_format": "bfloat16-stochastic"},
)
MASTER = Technique(
    "weight_format: bfloat16-master", "none in precision: steps stay in float32", {"weight_format": "bfloat16-master"}
)
OFFLOAD_OPTIMIZER = Technique(
    "cpu_offload: optimizer", "gradients are sent to the host; the CPU runs the step", {"cpu_offload": "optimizer"}
)
OFFLOAD_LAYERS = Technique(
    "cpu_offload: layers", "weights are fetched from the host, twice per pass", {"cpu_offload": "layers"}
)
BACKWARD_OPTIMIZER = Technique(
    "optimizer_in_backward: true, max_grad_norm: null, batch_size: 1, micro_batch_size: 1",
    "changes the training: no accumulation, no clipping",
    {"optimizer_in_backward": True, "max_grad_norm": None, "batch_size": 1, "micro_batch_size": 1},
)
OFFLOAD_EMBEDDING = Technique("offload_embedding: true", "the CPU looks up its rows", {"offload_embedding": True})
NF4 = Technique("adapter: {quantization: nf4}", "the base rounded to 4 bits", {"adapter": {"quantization": "nf4"}})

_LEAN = (RECOMPUTE, ONE_ROW)
_MOMENTS: tuple[Techniques, ...] = ((), (BF16,), (EIGHT_BITS,))

MFPT: tuple[Techniques, ...] = (
    (RECOMPUTE,),
    _LEAN,
    (*_LEAN, BF16),
    (*_LEAN, EIGHT_BITS),
    (*_LEAN, EIGHT_BITS, STOCHASTIC),
    (OFFLOAD_ACTIVATIONS, ONE_ROW, BF16),  # for shards, which do not support the techniques above
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
"""Values of a setting in order of decreasing memory."""


def techniques_of(settings: TrainingConfig) -> tuple[Techniques, ...]:
    """Return all combinations of techniques for a stage."""
    return MPEFT if isinstance(settings, AdapterTrainingConfig) else MFPT


def apply_techniques(settings: TrainingConfig, way: Techniques) -> tuple[TrainingConfig, Techniques] | None:
    """Apply techniques to settings; return the new settings and the changes that were not made yet.

    None if the settings would contradict each other, or nothing would change.
    """
    new = tuple(change for change in way if not _is_made(settings, change))
    values: dict[str, Any] = settings.model_dump()
    for change in new:
        values = _merge(values, change.values)
    try:
        return (type(settings).model_validate(values), new) if new else None
    except ValidationError:
        return None


def refusal(
    settings: TrainingConfig, precision: str, shape: Shape, machine: Machine, *, benchmarks: bool
) -> str | None:
    """Explain why a run would not start on this machine, whatever its memory; None if it would.

    Args:
        settings: settings of a stage.
        precision: dtype of the matrix products.
        shape: sizes of the base.
        machine: hardware of the run; several processes support fewer settings.
        benchmarks: whether validation includes benchmarks.
    """
    if reason := clash(settings.weight_format, precision):
        return reason
    if has_offloaded_embedding(settings) and not shape.head:
        return "the base's embedding shares its weights with the output head; set offload_embedding: false"
    if machine.processes > 1:
        try:
            require_shardable(settings, benchmarks=benchmarks)
        except InputError as error:
            return str(error)
    return None


def is_quantized(settings: TrainingConfig) -> bool:
    """Return whether the base is quantized to 4 bits."""
    return isinstance(settings, AdapterTrainingConfig) and settings.adapter.quantization == "nf4"


def has_offloaded_embedding(settings: TrainingConfig) -> bool:
    """Return whether the input embedding is in host memory."""
    return isinstance(settings, AdapterTrainingConfig) and settings.offload_embedding


def _is_made(settings: TrainingConfig, change: Technique) -> bool:
    """Return whether the settings already have a change, or one that saves more memory."""
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
