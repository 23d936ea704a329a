"""What each stage of a recipe needs of a machine: memory by component, work, and what would make it fit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.planning.machine import GIB, Machine
from jmedllm.planning.shape import Shape, config_of, shape_of, structure
from jmedllm.planning.tracing import Step, trace_step
from jmedllm.precision import Precision
from jmedllm.recipe import Mpeft, Recipe
from jmedllm.training.adapter import Adapter, add_adapter
from jmedllm.training.optimization import Optimization, clash, require_shardable
from jmedllm.training.weights import KEEPINGS

NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes of a weight in 4 bits: half a byte, a byte for each block of 64, four for each 256 of these."""

CONTEXT = int(0.7 * GIB)
"""What CUDA, its libraries and an allocator hold that hands out whole blocks. Assumed, not measured."""

REACHED = (0.25, 0.5)
"""Share of a GPU's rated speed that training is assumed to reach, at worst and at best. Not measured."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of one component, on each GPU, on the host and on disk."""

    name: str
    gpu: int = 0
    host: int = 0
    disk: int = 0


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What a stage needs.

    Attributes:
        tokens: that are read by all GPUs together; None where that depends on data that is yet to be packed.
        flops: of a token.
    """

    stage: str
    parts: tuple[Part, ...]
    tokens: int | None
    flops: float

    @property
    def gpu(self) -> int:
        """Bytes on each GPU."""
        return sum(part.gpu for part in self.parts)

    @property
    def host(self) -> int:
        """Bytes of host memory of a node."""
        return sum(part.host for part in self.parts)

    @property
    def disk(self) -> int:
        """Bytes on disk."""
        return sum(part.disk for part in self.parts)

    def fits(self, machine: Machine) -> bool:
        """Whether GPU and host have room."""
        return self.gpu <= machine.gpu.memory and self.host <= machine.ram

    def hours(self, machine: Machine, tokens: int) -> tuple[float, float] | None:
        """Hours that so many tokens take, at best and at worst; None where the GPU's speed is not known."""
        if machine.gpu.rates is None:
            return None
        best, worst = (
            tokens * self.flops / (machine.gpu.rates.flops * share * machine.processes) / 3600
            for share in reversed(REACHED)
        )
        return best, worst


@dataclass(frozen=True, slots=True)
class Base:
    """What is trained: a model by its config, and the number format of its products."""

    name: str
    config: dict[str, Any]
    precision: Precision


@dataclass(frozen=True, slots=True)
class Change:
    """A setting that needs less memory, and what it costs."""

    setting: str
    cost: str
    values: dict[str, Any]


_CHANGES = (
    Change("activations: recompute", "about a third of the time", {"activations": "recompute"}),
    Change("micro_batch: 1", "time, where passes become small", {"micro_batch": 1}),
    Change("optimizer: adamw-8bit", "moments in 8 bits", {"optimizer": "adamw-8bit"}),
    Change("weight_format: bfloat16-stochastic", "weights in bfloat16", {"weight_format": "bfloat16-stochastic"}),
    Change("adapter.quantization: nf4", "the base rounded to 4 bits", {"adapter": {"quantization": "nf4"}}),
    Change("activations: offload", "copies to the host and back", {"activations": "offload"}),
)
"""In the order of what they cost."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A stage as the recipe has it, and the first changes that make it fit.

    Attributes:
        changes: none where it fits as it is.
        changed: with all of them; where it does not fit then either, `fits` says so.
    """

    planned: StagePlan
    changes: tuple[Change, ...]
    changed: StagePlan


def plan(recipe: Recipe, machine: Machine) -> list[Advice]:
    """Plan the training stages of a recipe; reads the base's config and nothing else.

    Raises:
        InputError: the base is built from nothing, its config is not known or lacks a size, or the recipe trains
            nothing.
    """
    if recipe.base.path is None:
        raise InputError("base.scratch is built from its corpus and small; there is nothing to plan")
    values = config_of(recipe.base.path, recipe.base.revision)
    stages: list[tuple[str, Optimization, int]] = []
    if recipe.mfpt and recipe.corpus:
        stages.append(("mfpt", recipe.mfpt, recipe.corpus.block_size))
    if recipe.mpeft:
        stages.append(("mpeft", recipe.mpeft, recipe.mpeft.block_size))
    if not stages:
        raise InputError("the recipe trains nothing: it has no mfpt and no mpeft section")
    dtype = torch.float32 if recipe.precision == "float32" else torch.bfloat16
    precision = Precision(torch.device("cpu"), dtype, "planned for")
    base = Base(recipe.base.path, values, precision)
    return [
        _advise(
            settings,
            machine,
            precision.name,
            partial(_plan_stage, stage=stage, block_size=size, base=base, machine=machine),
        )
        for stage, settings, size in stages
    ]


def _advise(
    settings: Optimization, machine: Machine, precision: str, planned: Callable[[Optimization], StagePlan]
) -> Advice:
    first = latest = planned(settings)
    changes: list[Change] = []
    for change in _CHANGES:
        if latest.fits(machine):
            break
        if (changed := _changed(settings, change.values, machine, precision)) is None:
            continue
        tried = planned(changed)
        if tried.gpu < latest.gpu:
            settings, latest = changed, tried
            changes.append(change)
    return Advice(first, tuple(changes), latest)


def _changed(
    settings: Optimization, values: dict[str, Any], machine: Machine, precision: str
) -> Optimization | None:
    """The settings with a change; None where it is made already, or a run would refuse it."""
    if isinstance(settings, Mpeft):
        if "weight_format" in values:
            return None
        if "adapter" in values:
            values = {"adapter": settings.adapter.model_copy(update=values["adapter"])}
    elif "adapter" in values:
        return None
    changed = settings.model_copy(update=values)
    if changed == settings or clash(changed.weight_format, precision):
        return None
    if machine.processes > 1 and not _is_quantized(changed):
        try:
            require_shardable(changed, exam=False)
        except InputError:
            return None
    return changed


def _is_quantized(settings: Optimization) -> bool:
    return isinstance(settings, Mpeft) and settings.adapter.quantization == "nf4"


def _plan_stage(settings: Optimization, *, stage: str, block_size: int, base: Base, machine: Machine) -> StagePlan:
    adapter = settings.adapter if isinstance(settings, Mpeft) else None
    dtype = base.precision.dtype if adapter else KEEPINGS[settings.weight_format].dtype
    network = structure(base.config, base.name, dtype)
    shape = shape_of(network)
    if adapter:
        with torch.device("meta"):
            network = add_adapter(network, _without_start(adapter), seed=0)
    step = trace_step(network, settings, base.precision, block_size)
    trained = step.trained // (4 if adapter else dtype.itemsize)
    parts = [
        *_on_gpu(step, shape, settings, adapter, dtype, machine),
        *_elsewhere(step, shape, settings, adapter, machine),
    ]
    return StagePlan(
        stage,
        tuple(parts),
        settings.steps * settings.batch * block_size if settings.steps else None,
        _flops(shape, settings, block_size, trained if adapter else None),
    )


def _without_start(adapter: Adapter) -> Adapter:
    """The adapter without PiSSA's start, which is computed from the weights' contents."""
    return adapter.model_copy(update={"kind": "lora"}) if adapter.kind == "pissa" else adapter


def _on_gpu(
    step: Step,
    shape: Shape,
    settings: Optimization,
    adapter: Adapter | None,
    dtype: torch.dtype,
    machine: Machine,
) -> Iterator[Part]:
    quantized = _is_quantized(settings)
    share = 1 if quantized else machine.processes
    if adapter:
        frozen = step.frozen - int(shape.linear * (dtype.itemsize - NF4)) if quantized else step.frozen
        yield Part("base, 4 bits" if quantized else f"base, {_named(dtype)}", frozen // share)
        halves = 2 if adapter.kind == "pissa" else 1  # the start of both matrices is kept beside them
        yield Part("adapter", halves * step.trained // share)
    else:
        yield Part(f"weights, {settings.weight_format}", step.trained // share)
    yield Part("gradients", step.gradients // share)
    yield Part(f"optimizer, {settings.optimizer}", step.state // share)
    if share > 1:
        whole = 4 if not adapter else dtype.itemsize
        beside = 2 * shape.largest_layer * 2 + (shape.embedding + shape.head) * whole * (1 if adapter else 2)
        yield Part("two layers, embedding and head, whole", beside)
    held = Part("activations, kept for the backward pass", step.held)
    if settings.activations == "offload":
        held = replace(held, gpu=0, host=step.held * machine.gpus)
    yield held
    working = step.working - step.held
    if quantized:
        working += 2 * shape.largest_matrix  # unpacked for its product
    if share > 1 and dtype == torch.float32:
        working -= min(working, 2 * shape.linear)  # layers arrive in bfloat16 and go again: no casts of them stay
    yield Part("activations, logits and casts at work", working)
    yield Part("CUDA and its allocator (assumed)", CONTEXT)


def _elsewhere(
    step: Step, shape: Shape, settings: Optimization, adapter: Adapter | None, machine: Machine
) -> Iterator[Part]:
    stored = 2 * shape.total
    quantized = _is_quantized(settings)
    if machine.processes > 1 and not quantized:
        yield Part("the whole model, in the first process", host=stored if adapter else 4 * shape.total)
    elif not quantized:
        yield Part("the base while it is loaded", host=stored)
    yield Part("two checkpoints", disk=2 * (step.trained + step.state))
    if settings.watch.best_by:
        yield Part("the best weights, twice", disk=2 * step.trained)
    yield Part(
        "adapter and merged model" if adapter else "the model", disk=stored + (step.trained if adapter else 0)
    )


def _flops(shape: Shape, settings: Optimization, block_size: int, adapter: int | None) -> float:
    """Of a token, forward and backward (Kaplan et al. 2020, arXiv 2001.08361, with attention over half a row)."""
    products = shape.linear + (shape.head or shape.embedding)
    attention = shape.layers * shape.queries * block_size / 2
    again = 1 if settings.activations != "none" else 0
    weights = products * 2 * (3 + again) if adapter is None else products * 2 * (2 + again) + adapter * 6
    return weights + attention * 4 * (3 + again)


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def as_json(found: Sequence[Advice], machine: Machine) -> dict[str, Any]:
    """All of a plan as plain values: bytes, tokens and hours."""
    return {
        "machine": asdict(machine),
        "stages": [
            {
                "stage": each.planned.stage,
                "fits": each.planned.fits(machine),
                "as_written": _values(each.planned, machine),
                "changes": [change.setting for change in each.changes],
                "changed": _values(each.changed, machine),
                "fits_changed": each.changed.fits(machine),
            }
            for each in found
        ],
    }


def _values(planned: StagePlan, machine: Machine) -> dict[str, Any]:
    tokens = planned.tokens
    return {
        "parts": [asdict(part) for part in planned.parts],
        "gpu": planned.gpu,
        "host": planned.host,
        "disk": planned.disk,
        "tokens": tokens,
        "hours": planned.hours(machine, tokens) if tokens else None,
        "hours_a_million_tokens": planned.hours(machine, 1_000_000),
    }
