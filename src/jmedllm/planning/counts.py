"""Sizes of a trained model, each computed once from its structure alone."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import ceil
from typing import Any

import torch

from jmedllm.deploy.delta import adapted_share, left_frozen
from jmedllm.errors import InputError, is_out_of_memory
from jmedllm.models.layers import freeze_beside_text
from jmedllm.models.weights.quantization import quantization_in
from jmedllm.planning.shape import Shape, keep_layers, shape_of, structure
from jmedllm.planning.tracing import StepMemory, extrapolate, state_bytes, trace_step
from jmedllm.precision import Precision
from jmedllm.recipe import AdapterTrainingConfig
from jmedllm.training.config import TrainingConfig
from jmedllm.training.lora import AdapterConfig, adapted_layers, add_adapter
from jmedllm.training.optim.weights import WEIGHT_FORMATS

FEW = 2
"""Least number of layers of the shallow copy that is traced instead of a deeper model; a second copy has twice as
many. If the sizes of layers repeat, a copy has whole periods."""


@dataclass(frozen=True, slots=True)
class PlannedBase:
    """The trained model.

    Attributes:
        config: text of its config.json, after dequantization.
        dtype: dtype of its matrix products.
        is_dequantized: whether the run writes it in bfloat16 first.
    """

    name: str
    config: str
    dtype: torch.dtype
    is_dequantized: bool = False

    @property
    def is_in_4_bits(self) -> bool:
        """Whether the weights are stored, and stay, in 4 bits."""
        found = quantization_in(json.loads(self.config))
        return bool(found and found.method and found.method.four_bits)

    @property
    def precision(self) -> Precision:
        """Precision of the training loop."""
        return Precision(torch.device("cpu"), self.dtype, "planned for")


@cache
def shape_of_base(base: PlannedBase) -> Shape:
    """Return the sizes of the base."""
    return shape_of(structure(json.loads(base.config), base.name, base.dtype))


def step_of(base: PlannedBase, settings: TrainingConfig, block_size: int) -> StepMemory:
    """Trace the memory of one training step of a stage.

    Raises:
        InputError: the model of this config cannot be trained with these settings.
    """
    with _one_line_errors(base):
        return _step(base, _key(_adapter_of(settings)), block_size, _traced(settings))


def state_of(base: PlannedBase, settings: TrainingConfig) -> int:
    """Return the bytes of the optimizer state of a stage, on GPU or host.

    Raises:
        InputError: see `step_of`.
    """
    with _one_line_errors(base):
        return _state(base, _key(_adapter_of(settings)), _stated(settings))


def adapter_numbers(base: PlannedBase, adapter: AdapterConfig) -> int:
    """Return the number of parameters of an adapter.

    Raises:
        InputError: see `step_of`.
    """
    with _one_line_errors(base):
        return _numbers(base, _key(adapter))


@dataclass(frozen=True, slots=True)
class AdapterShares:
    """What an adapter changes of a model.

    Attributes:
        adapted: share of all weights in the matrices that it changes.
        frozen: shares of the weights that it leaves frozen, see `left_frozen`.
        in_experts: number of its parameters that update routed experts.
    """

    adapted: float
    frozen: dict[str, float]
    in_experts: int


def adapter_shares(base: PlannedBase, adapter: AdapterConfig) -> AdapterShares:
    """Return what an adapter changes of a base.

    Raises:
        InputError: see `step_of`.
    """
    with _one_line_errors(base):
        return _adapter_shares(base, _key(adapter))


@cache
def _adapter_shares(base: PlannedBase, adapter: str | None) -> AdapterShares:
    plain = TrainingConfig(steps=1, learning_rate=1.0)
    network = _network(base, adapter, plain, shape_of_base(base).layers)
    experts = [layer for layer in adapted_layers(network).values() if getattr(layer, "num_experts", 1) > 1]
    factors = [factor for layer in experts for part in (layer.lora_A, layer.lora_B) for factor in part.values()]
    return AdapterShares(adapted_share(network), left_frozen(network), sum(each.weight.numel() for each in factors))


@contextmanager
def _one_line_errors(base: PlannedBase) -> Iterator[None]:
    """Convert exceptions of torch and transformers about inconsistent sizes into one line."""
    log = logging.getLogger("torch._subclasses.fake_tensor")  # FakeTensorMode logs each error with its traceback
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
    """Key of an adapter without quantization and without PiSSA's initialization, which needs the values of the
    weights."""
    if adapter is None:
        return None
    kind = "lora" if adapter.kind == "pissa" else adapter.kind
    return adapter.model_copy(update={"kind": kind, "quantization": "none"}).model_dump_json()


def _traced(settings: TrainingConfig) -> str:
    """Serialize the settings that affect the memory of a step; others have their defaults."""
    values = settings.model_dump(include={"weight_format", "micro_batch_size", "optimizer_in_backward"}) | {
        "activation_checkpointing": "none" if settings.activation_checkpointing == "none" else "recompute",
        "cpu_offload": "none" if settings.cpu_offload == "none" else "optimizer",
    }
    return _plain(settings, values)


def _stated(settings: TrainingConfig) -> str:
    """Serialize the settings that affect the optimizer state."""
    return _plain(settings, settings.model_dump(include={"weight_format", "optimizer"}))


def _plain(settings: TrainingConfig, values: dict[str, Any]) -> str:
    whole = {"steps": 1, "learning_rate": 1.0, "max_grad_norm": None, "batch_size": settings.micro_batch_size} | values
    return TrainingConfig.model_validate({"micro_batch_size": settings.micro_batch_size} | whole).model_dump_json()


def _network(base: PlannedBase, adapter: str | None, settings: TrainingConfig, layers: int) -> Any:
    """Build the trained network on "meta" with only its first layers."""
    dtype = base.dtype if adapter else WEIGHT_FORMATS[settings.weight_format].dtype
    network = structure(json.loads(base.config), base.name, dtype)
    keep_layers(network, layers)
    if adapter is None:
        freeze_beside_text(network)
        return network
    with torch.device("meta"):
        kept = WEIGHT_FORMATS[settings.weight_format].dtype
        return add_adapter(network, AdapterConfig.model_validate_json(adapter), 0, kept)


@cache
def _step(base: PlannedBase, adapter: str | None, block_size: int, settings: str) -> StepMemory:
    wanted = TrainingConfig.model_validate_json(settings)

    def traced(layers: int) -> StepMemory:
        return trace_step(_network(base, adapter, wanted, layers), wanted, base.precision, block_size)

    few, *twice = map(traced, _depths(base))
    return extrapolate(few, twice[0], shape_of_base(base).layers / _few(base)) if twice else few


@cache
def _state(base: PlannedBase, adapter: str | None, settings: str) -> int:
    wanted = TrainingConfig.model_validate_json(settings)
    few, *twice = (state_bytes(_network(base, adapter, wanted, layers), wanted) for layers in _depths(base))
    return _extended(base, few, *twice)


@cache
def _numbers(base: PlannedBase, adapter: str | None) -> int:
    plain = TrainingConfig(steps=1, learning_rate=1.0)
    networks = (_network(base, adapter, plain, layers) for layers in _depths(base))
    few, *twice = (sum(int(p.numel()) for p in each.parameters() if p.requires_grad) for each in networks)
    return _extended(base, few, *twice)


def _extended(base: PlannedBase, few: int, twice: int | None = None) -> int:
    """Extrapolate a number from copies with a few layers and twice as many to the whole model."""
    return few if twice is None else few + (twice - few) * (shape_of_base(base).layers - _few(base)) // _few(base)


def _few(base: PlannedBase) -> int:
    period = shape_of_base(base).period
    return period * ceil(FEW / period)


def _depths(base: PlannedBase) -> tuple[int, ...]:
    """Return the depths to trace: a few layers and twice as many, or all layers if there are no more."""
    layers, few = shape_of_base(base).layers, _few(base)
    return (layers,) if layers <= 2 * few else (few, 2 * few)
