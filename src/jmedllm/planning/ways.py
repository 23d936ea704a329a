"""Ways of making a stage need less memory, in the order of what they cost."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from jmedllm.errors import InputError
from jmedllm.planning.machine import Machine
from jmedllm.planning.shape import Shape
from jmedllm.recipe import MpeftConfig
from jmedllm.training.config import TrainingConfig, clash, require_shardable


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A setting that needs less memory.

    Attributes:
        setting: as a recipe writes it.
        cost: in words.
        values: what it sets, by key; of a section within, only what changes.
    """

    setting: str
    cost: str
    values: dict[str, Any]


Way = tuple[Change, ...]
"""Changes that are made together; all others stay as the recipe has them."""

RECOMPUTE = Change(
    "activation_checkpointing: recompute", "about a third of the time", {"activation_checkpointing": "recompute"}
)
ON_HOST = Change(
    "activation_checkpointing: offload", "copies to the host and back", {"activation_checkpointing": "offload"}
)
ONE_ROW = Change("micro_batch_size: 1", "time, where passes become small", {"micro_batch_size": 1})
BF16 = Change("optimizer: adamw-bf16", "moments rounded to bfloat16", {"optimizer": "adamw-bf16"})
EIGHT_BITS = Change("optimizer: adamw-8bit", "moments rounded to 8 bits", {"optimizer": "adamw-8bit"})
STOCHASTIC = Change(
    "weight_format: bfloat16-stochastic",
    "what is trained, rounded to bfloat16",
    {"weight_format": "bfloat16-stochastic"},
)
MASTER = Change(
    "weight_format: bfloat16-master", "no precision: steps stay in float32", {"weight_format": "bfloat16-master"}
)
OPTIMIZER_AWAY = Change(
    "cpu_offload: optimizer", "gradients pass the link; the CPU steps", {"cpu_offload": "optimizer"}
)
WEIGHTS_AWAY = Change("cpu_offload: layers", "weights pass the link too, twice a pass", {"cpu_offload": "layers"})
IN_BACKWARD = Change(
    "optimizer_in_backward: true, max_grad_norm: null, batch_size: 1, micro_batch_size: 1",
    "changes the training: no accumulation, no clipping",
    {"optimizer_in_backward": True, "max_grad_norm": None, "batch_size": 1, "micro_batch_size": 1},
)
EMBEDDING = Change("offload_embedding: true", "the CPU gathers its rows", {"offload_embedding": True})
NF4 = Change("adapter: {quantization: nf4}", "the base rounded to 4 bits", {"adapter": {"quantization": "nf4"}})

_LEAN = (RECOMPUTE, ONE_ROW)
_MOMENTS: tuple[Way, ...] = ((), (BF16,), (EIGHT_BITS,))

MFPT: tuple[Way, ...] = (
    (RECOMPUTE,),
    _LEAN,
    (*_LEAN, BF16),
    (*_LEAN, EIGHT_BITS),
    (*_LEAN, EIGHT_BITS, STOCHASTIC),
    (ON_HOST, ONE_ROW, BF16),  # where shards refuse what is above
    (ON_HOST, ONE_ROW, EIGHT_BITS, STOCHASTIC),
    *((*kept, *moments, MASTER, OPTIMIZER_AWAY) for kept in (_LEAN, (ON_HOST, ONE_ROW)) for moments in _MOMENTS),
    *((*kept, *moments, MASTER, WEIGHTS_AWAY) for kept in (_LEAN, (ON_HOST, ONE_ROW)) for moments in _MOMENTS),
    (RECOMPUTE, EIGHT_BITS, STOCHASTIC, IN_BACKWARD),
)
_ADAPTERS: tuple[Way, ...] = (
    _LEAN,
    (*_LEAN, EIGHT_BITS),
    (*_LEAN, EIGHT_BITS, STOCHASTIC),
    (*_LEAN, EIGHT_BITS, NF4),
    (*_LEAN, EIGHT_BITS, STOCHASTIC, NF4),
    (ON_HOST, ONE_ROW, EIGHT_BITS, STOCHASTIC, NF4),
)
MPEFT: tuple[Way, ...] = ((RECOMPUTE,), *((*way, *last) for way in _ADAPTERS for last in ((), (EMBEDDING,))))

_SAVING = {
    "activation_checkpointing": ("none", "recompute", "offload"),
    "optimizer": ("adamw", "adamw-bf16", "adamw-8bit"),
    "cpu_offload": ("none", "optimizer", "layers"),
}
"""Values of a setting, those that need less memory last."""


def ways_of(settings: TrainingConfig) -> tuple[Way, ...]:
    """All ways there are for a stage."""
    return MPEFT if isinstance(settings, MpeftConfig) else MFPT


def changed(settings: TrainingConfig, way: Way) -> tuple[TrainingConfig, Way] | None:
    """The settings with a way's changes, and those changes that were not made yet.

    None where the settings would then contradict one another, or nothing has changed.
    """
    new = tuple(change for change in way if not _is_made(settings, change))
    values: dict[str, Any] = settings.model_dump()
    for change in new:
        values = _laid_over(values, change.values)
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
    if has_embedding_on_host(settings) and not shape.head:
        return "the base's embedding shares its weights with the output head; set offload_embedding: false"
    if machine.processes > 1:
        try:
            require_shardable(settings, exam=exam)
        except InputError as error:
            return str(error)
    return None


def is_quantized(settings: TrainingConfig) -> bool:
    """Whether the base is held in 4 bits."""
    return isinstance(settings, MpeftConfig) and settings.adapter.quantization == "nf4"


def has_embedding_on_host(settings: TrainingConfig) -> bool:
    """Whether the input embedding waits in host memory."""
    return isinstance(settings, MpeftConfig) and settings.offload_embedding


def _is_made(settings: TrainingConfig, change: Change) -> bool:
    """Whether the settings have a change already, or one that saves more."""
    return all(_has(getattr(settings, key), value, key) for key, value in change.values.items())


def _has(found: Any, wanted: Any, key: str) -> bool:
    if key in _SAVING:
        return _SAVING[key].index(found) >= _SAVING[key].index(wanted)
    if isinstance(wanted, dict):
        return all(getattr(found, name) == value for name, value in wanted.items())
    return bool(found == wanted)


def _laid_over(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return values | {
        key: _laid_over(values[key], value) if isinstance(value, dict) else value for key, value in changes.items()
    }
