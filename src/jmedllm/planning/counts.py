"""What is counted of a model that is trained: each figure once, on its structure alone."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from jmedllm.errors import InputError, is_out_of_memory
from jmedllm.planning.shape import Shape, keep_layers, shape_of, structure
from jmedllm.planning.tracing import StepMemory, extrapolate, state_bytes, trace_step
from jmedllm.precision import Precision
from jmedllm.recipe import AdapterTrainingConfig
from jmedllm.training.config import TrainingConfig
from jmedllm.training.lora import AdapterConfig, add_adapter
from jmedllm.training.optim.weights import WEIGHT_FORMATS

FEW = 2
"""Layers of a model that is traced in the place of a deeper one, and of one with twice as many."""


@dataclass(frozen=True, slots=True)
class Base:
    """What is trained: a model by its config.json, as text, and the number format of its products."""

    name: str
    config: str
    dtype: torch.dtype

    @property
    def precision(self) -> Precision:
        """As the loop has it."""
        return Precision(torch.device("cpu"), self.dtype, "planned for")


@cache
def shape_of_base(base: Base) -> Shape:
    """The sizes of what is trained."""
    return shape_of(structure(json.loads(base.config), base.name, base.dtype))


def step_of(base: Base, settings: TrainingConfig, block_size: int) -> StepMemory:
    """Memory of one step of a stage.

    Raises:
        InputError: the base's config is of no model that can be trained like this.
    """
    with _one_line_errors(base):
        return _step(base, _key(_adapter_of(settings)), block_size, _traced(settings))


def state_of(base: Base, settings: TrainingConfig) -> int:
    """Bytes of the optimizer state of a stage, on GPU or host.

    Raises:
        InputError: see `step_of`.
    """
    with _one_line_errors(base):
        return _state(base, _key(_adapter_of(settings)), _stated(settings))


def adapter_numbers(base: Base, adapter: AdapterConfig) -> int:
    """Parameters of an adapter."""
    return _numbers(base, _key(adapter))


@contextmanager
def _one_line_errors(base: Base) -> Iterator[None]:
    """Turn whatever torch and transformers raise at sizes that do not go together into one line."""
    log = logging.getLogger("torch._subclasses.fake_tensor")  # which logs each error with its traceback
    was_silent, log.disabled = log.disabled, True
    try:
        yield
    except Exception as error:
        if isinstance(error, InputError) or is_out_of_memory(error):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
        raise InputError(
            f"config of {base.name}: its training step cannot be traced: {reason}; fix its sizes, set another "
            "weight_format, or choose another base"
        ) from error
    finally:
        log.disabled = was_silent


def _adapter_of(settings: TrainingConfig) -> AdapterConfig | None:
    return settings.adapter if isinstance(settings, AdapterTrainingConfig) else None


def _key(adapter: AdapterConfig | None) -> str | None:
    """The adapter without PiSSA's start, which is computed from the weights' contents, and its base whole."""
    if adapter is None:
        return None
    kind = "lora" if adapter.kind == "pissa" else adapter.kind
    return adapter.model_copy(update={"kind": kind, "quantization": "none"}).model_dump_json()


def _traced(settings: TrainingConfig) -> str:
    """All of a stage's settings that a step's own memory depends on; the others as they are by default."""
    values = settings.model_dump(include={"weight_format", "micro_batch_size", "optimizer_in_backward"}) | {
        "activation_checkpointing": "none" if settings.activation_checkpointing == "none" else "recompute",
        "cpu_offload": "none" if settings.cpu_offload == "none" else "optimizer",
    }
    return _plain(settings, values)


def _stated(settings: TrainingConfig) -> str:
    """All of a stage's settings that its optimizer's state depends on."""
    return _plain(settings, settings.model_dump(include={"weight_format", "optimizer"}))


def _plain(settings: TrainingConfig, values: dict[str, Any]) -> str:
    whole = {"steps": 1, "learning_rate": 1.0, "max_grad_norm": None, "batch_size": settings.micro_batch_size} | values
    return TrainingConfig.model_validate({"micro_batch_size": settings.micro_batch_size} | whole).model_dump_json()


def _network(base: Base, adapter: str | None, settings: TrainingConfig, layers: int) -> Any:
    """The network as it is trained, on "meta", with its first layers alone."""
    dtype = base.dtype if adapter else WEIGHT_FORMATS[settings.weight_format].dtype
    network = structure(json.loads(base.config), base.name, dtype)
    keep_layers(network, layers)
    if adapter is None:
        return network
    with torch.device("meta"):
        kept = WEIGHT_FORMATS[settings.weight_format].dtype
        return add_adapter(network, AdapterConfig.model_validate_json(adapter), 0, kept)


@cache
def _step(base: Base, adapter: str | None, block_size: int, settings: str) -> StepMemory:
    wanted = TrainingConfig.model_validate_json(settings)

    def traced(layers: int) -> StepMemory:
        return trace_step(_network(base, adapter, wanted, layers), wanted, base.precision, block_size)

    few, *twice = map(traced, _depths(base))
    return extrapolate(few, twice[0], shape_of_base(base).layers / FEW) if twice else few


@cache
def _state(base: Base, adapter: str | None, settings: str) -> int:
    wanted = TrainingConfig.model_validate_json(settings)
    few, *twice = (state_bytes(_network(base, adapter, wanted, layers), wanted) for layers in _depths(base))
    return few + (twice[0] - few) * (shape_of_base(base).layers - FEW) // FEW if twice else few


@cache
def _numbers(base: Base, adapter: str | None) -> int:
    plain = TrainingConfig(steps=1, learning_rate=1.0)
    networks = (_network(base, adapter, plain, layers) for layers in _depths(base))
    few, *twice = (sum(int(p.numel()) for p in each.parameters() if p.requires_grad) for each in networks)
    return few + (twice[0] - few) * (shape_of_base(base).layers - FEW) // FEW if twice else few


def _depths(base: Base) -> tuple[int, ...]:
    """How many layers to look at: a few and twice as many, or all where that is no more or they differ in size."""
    shape = shape_of_base(base)
    if shape.layers <= 2 * FEW or shape.in_layers != shape.layers * shape.largest_layer:
        return (shape.layers,)
    return FEW, 2 * FEW
