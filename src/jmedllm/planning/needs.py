"""Memory and disk that a training stage needs, by component."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from jmedllm.errors import InputError
from jmedllm.planning.counts import (
    AdapterShares,
    PlannedBase,
    adapter_numbers,
    adapter_shares,
    shape_of_base,
    state_of,
    step_of,
)
from jmedllm.planning.hours import HOST_STEP, AdapterSize, Hours, Work, flops
from jmedllm.planning.machine import GIB, Machine, gib
from jmedllm.planning.shape import Shape
from jmedllm.planning.techniques import has_offloaded_embedding, is_quantized
from jmedllm.planning.tracing import StepMemory
from jmedllm.recipe import AdapterTrainingConfig
from jmedllm.training.config import TrainingConfig
from jmedllm.training.lora import AdapterConfig
from jmedllm.training.optim.cpu_offload import BUFFER_BYTES, BUFFERS
from jmedllm.training.optim.weights import WEIGHT_FORMATS

NF4 = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes per weight in 4 bits: half a byte, one byte per block of 64, and four bytes per 256 blocks."""

CONTEXT = int(0.7 * GIB)
"""Memory of CUDA, its libraries and the caching allocator. Assumed, not measured."""

LIBRARIES = 2 * GIB
"""Host memory of a process without a model, with CUDA's libraries. Assumed, not measured."""

WITHOUT_CUDA = GIB // 2
"""Host memory of a process without a model on a CPU, measured on Linux."""

WORKING = "temporary: activations, logits, casts"
CUDA = "CUDA and its allocator (assumed)"
PYTHON = "Python and its libraries (assumed)"

LAYERS_ON_GPU = 3
"""Number of layers on the GPU at the same time with layer offload."""


@dataclass(frozen=True, slots=True)
class Component:
    """Bytes of one component on each GPU, on the host and on disk."""

    name: str
    gpu: int = 0
    host: int = 0
    disk: int = 0


@dataclass(frozen=True, slots=True)
class Needs:
    """Components that exist at the same time."""

    parts: tuple[Component, ...]

    @property
    def gpu(self) -> int:
        """Bytes on each GPU, in total."""
        return sum(part.gpu for part in self.parts)

    @property
    def host(self) -> int:
        """Bytes of host memory of a node, in total."""
        return sum(part.host for part in self.parts)

    @property
    def disk(self) -> int:
        """Bytes on disk, in total."""
        return sum(part.disk for part in self.parts)

    def fits(self, machine: Machine) -> bool:
        """Return whether GPU and host have enough memory."""
        if machine.is_shared:
            return self.gpu * machine.gpus + self.host <= machine.ram
        return self.gpu <= machine.gpu.memory and self.host <= machine.ram


@dataclass(frozen=True, slots=True)
class StagePlan(Needs):
    """Needs of a training stage.

    Attributes:
        steps: number of optimizer steps; None if it depends on data that are not packed yet.
        tokens: number of tokens in these steps, over all GPUs.
        shape: sizes of the base.
        coverage: what the adapter changes of the base, for a mixture of experts.
    """

    stage: str
    work: Work
    steps: int | None
    tokens: int | None
    shape: Shape
    coverage: AdapterShares | None

    def hours(self, machine: Machine, tokens: int) -> Hours | None:
        """Estimate the hours for a number of tokens, at best and at worst; None if the GPU's speed is unknown."""
        return self.work.hours(machine, tokens)


def plan_stage(
    stage: str,
    settings: TrainingConfig,
    block_size: int,
    base: PlannedBase,
    machine: Machine,
    *,
    rows: int | None = None,
) -> StagePlan:
    """Estimate what a training stage needs on each GPU, on the host and on disk.

    Args:
        stage: name of the stage.
        settings: settings of the stage.
        block_size: tokens per row.
        base: the trained model.
        machine: hardware of the run.
        rows: number of packed rows; None if unknown.

    Raises:
        InputError: the model of this config cannot be trained with these settings.
    """
    adapter = settings.adapter if isinstance(settings, AdapterTrainingConfig) else None
    traced = _Traced(
        settings,
        adapter,
        base.dtype if adapter else WEIGHT_FORMATS[settings.weight_format].dtype,
        shape_of_base(base),
        step_of(base, settings, block_size),
        state_of(base, settings),
        machine,
        is_quantized(settings) or base.is_in_4_bits,
    )
    coverage = adapter_shares(base, adapter) if adapter and traced.shape.experts else None
    steps = settings.steps if rows is None else settings.total_steps(rows)
    return StagePlan(
        _joined([*_gpu_components(traced), *_host_components(traced), *_disk_components(traced)]),
        stage,
        _work(traced, block_size, coverage),
        steps,
        steps * settings.batch_size * block_size if steps else None,
        traced.shape,
        coverage,
    )


def least_needs(settings: TrainingConfig, base: PlannedBase, machine: Machine) -> Needs:
    """Return the minimum needs of a training stage, independent of its batch size: weights, gradients, optimizer and
    files.

    It traces no step, which takes only a fraction of a second, and leaves out activations and assumed components.

    Raises:
        InputError: see `plan_stage`.
    """
    adapter = settings.adapter if isinstance(settings, AdapterTrainingConfig) else None
    shape, state = shape_of_base(base), state_of(base, settings)
    numbers = adapter_numbers(base, adapter) if adapter else shape.total
    kept = WEIGHT_FORMATS[settings.weight_format].dtype
    frozen = base.dtype.itemsize * shape.total if adapter else 0
    step = StepMemory(frozen, kept.itemsize * numbers, numbers, saved=0, inputs=0, forward=0, backward=0)
    in_4_bits = is_quantized(settings) or base.is_in_4_bits
    sized = _Traced(settings, adapter, base.dtype if adapter else kept, shape, step, state, machine, in_4_bits)
    parts = _joined([*_gpu_components(sized), *_host_components(sized), *_disk_components(sized)])
    return Needs(tuple(part for part in parts if part.name not in (WORKING, CUDA, PYTHON)))


@dataclass(frozen=True, slots=True)
class _Traced:
    """A training stage with the sizes of its model and of one step.

    Attributes:
        dtype: dtype of the weights that the network computes with.
        step: memory of one traced training step.
        state: bytes of the optimizer state.
        in_4_bits: whether the linear layers of the frozen base are in 4 bits.
    """

    settings: TrainingConfig
    adapter: AdapterConfig | None
    dtype: torch.dtype
    shape: Shape
    step: StepMemory
    state: int
    machine: Machine
    in_4_bits: bool


def _joined(parts: Iterable[Component]) -> tuple[Component, ...]:
    """Sum components of the same name; drop empty ones."""
    found: dict[str, Component] = {}
    for part in parts:
        one = found.get(part.name, Component(part.name))
        found[part.name] = Component(part.name, one.gpu + part.gpu, one.host + part.host, one.disk + part.disk)
    return tuple(part for part in found.values() if part.gpu or part.host or part.disk)


def require_host_memory(settings: TrainingConfig, block_size: int, base: PlannedBase, machine: Machine) -> None:
    """Check that a stage with `cpu_offload` has enough host memory, before anything is loaded.

    Args:
        settings: settings of stage 1.
        block_size: tokens per row.
        base: the trained model.
        machine: hardware of the run; on a CPU everything is in host memory.

    Raises:
        InputError: there is not enough; the message has the numbers.
    """
    if settings.cpu_offload == "none":
        return

    def needed(optimizer: str) -> list[tuple[str, int]]:
        tried = settings.model_copy(update={"optimizer": optimizer})
        parts = plan_stage("", tried, block_size, base, machine).parts
        shared = machine.gpus if machine.is_shared else 0
        return [(part.name, size) for part in parts if (size := part.host + shared * part.gpu)]

    def total(optimizer: str) -> int:
        return sum(size for _, size in needed(optimizer))

    if total(settings.optimizer) <= machine.ram:
        return
    listed = ", ".join(f"{name} {gib(size)}" for name, size in needed(settings.optimizer))
    needed_bytes, there = gib(total(settings.optimizer)), gib(machine.ram)
    smaller = next((each for each in ("adamw-bf16", "adamw-8bit") if total(each) <= machine.ram), None)
    fix = f"set optimizer: {smaller} ({gib(total(smaller))}) or " if smaller else ""
    raise InputError(
        f"cpu_offload: {settings.cpu_offload} needs {needed_bytes} of host memory ({listed}), this machine has "
        f"{there}; {fix}take a machine with more"
    )


def _gpu_components(traced: _Traced) -> Iterator[Component]:
    settings, shape, step, dtype = traced.settings, traced.shape, traced.step, traced.dtype
    adapter, machine = traced.adapter, traced.machine
    quantized = traced.in_4_bits
    share = machine.processes
    if adapter:
        frozen = step.frozen - int(shape.linear * (dtype.itemsize - NF4)) if quantized else step.frozen
        offloaded = dtype.itemsize * shape.embedding if has_offloaded_embedding(settings) else 0
        kept = in_4_bits(shape) if quantized else _named(dtype)
        yield Component(f"base, {kept}", (frozen - offloaded) // share)
        halves = 2 if adapter.kind == "pissa" else 1  # the initial values of both matrices are kept too
        yield Component(f"adapter, {settings.weight_format}", halves * step.trained // share)
    elif settings.cpu_offload == "layers":
        beside = shape.total - shape.in_layers
        yield Component("embedding, head and last norm", dtype.itemsize * beside)
        yield Component("layers on the GPU at once", dtype.itemsize * LAYERS_ON_GPU * shape.largest_layer)
    else:
        yield Component(f"weights, {settings.weight_format}", step.trained // share)
    if settings.cpu_offload == "none":
        yield Component("gradients", 0 if settings.optimizer_in_backward else 4 * step.numbers // share)
        yield Component(f"optimizer, {settings.optimizer}", traced.state // share)
    else:
        yield Component("gradients in transit", _transit_buffers(shape))
    if share > 1:
        yield Component("gathered: two layers, embedding and head", _gathered(traced))
    offloaded = step.inputs if settings.activation_checkpointing == "offload" else 0
    yield Component("kept for the backward pass", step.saved - offloaded)
    working = step.working - step.saved
    if quantized:
        working += 2 * shape.largest_matrix  # dequantized for its matrix product
    if share > 1 and dtype == torch.float32:
        working -= min(
            working, 2 * shape.linear
        )  # layers are gathered in bfloat16 and freed again, so no casts of them are kept
    yield Component(WORKING, working)
    yield Component(CUDA, 0 if machine.is_shared else CONTEXT)


def in_4_bits(shape: Shape) -> str:
    """Return the label of a 4-bit model, whose routed experts are not linear layers and keep their dtype."""
    if not shape.experts:
        return "4 bits" if 2 * shape.linear >= shape.total else "linear layers in 4 bits"
    return f"linear layers in 4 bits, experts ({shape.experts / shape.total:.0%}) in bfloat16"


def _gathered(traced: _Traced) -> int:
    """Return the bytes of gathered weights on each GPU: two layers, and embedding and head with gradients."""
    settings, shape = traced.settings, traced.shape
    layers = int(2 * shape.largest_layer * (NF4 if traced.in_4_bits else 2))
    if traced.adapter is None:
        return layers + 2 * 4 * (shape.embedding + shape.head)
    return layers + traced.dtype.itemsize * (
        shape.head + (0 if has_offloaded_embedding(settings) else shape.embedding)
    )


def _host_components(traced: _Traced) -> Iterator[Component]:
    settings, shape, step, machine = traced.settings, traced.shape, traced.step, traced.machine
    offloaded = tuple(_offloaded(traced)) if settings.cpu_offload != "none" else ()
    yield from offloaded
    if settings.activation_checkpointing == "offload":
        yield Component("kept for the backward pass", host=_pinned(step.inputs, shape, machine) * machine.gpus)
    if has_offloaded_embedding(settings):
        yield Component("embedding", host=2 * shape.embedding * machine.gpus)
    if machine.processes > 1:
        packed = shape.linear * (2 - NF4) if traced.in_4_bits else 0
        whole = 2 * shape.total - int(packed) if traced.adapter else 4 * shape.total
        yield Component("full model in the first process", host=whole)
    elif not traced.adapter and not machine.is_shared:
        # The memory of `cpu_offload` has been freed by then.
        written = max(0, 2 * shape.total - sum(part.host for part in offloaded))
        yield Component("writing the model", host=written)
    yield Component(PYTHON, host=(WITHOUT_CUDA if machine.is_shared else LIBRARIES) * machine.gpus)


def _offloaded(traced: _Traced) -> Iterator[Component]:
    """Yield the components that `cpu_offload` keeps in host memory."""
    settings, shape = traced.settings, traced.shape
    copies = 4 * traced.step.numbers
    yield Component("weights, float32", host=copies)
    yield Component("gradients, float32", host=copies)
    yield Component(f"moments, {settings.optimizer}", host=traced.state - copies)
    if settings.cpu_offload == "layers":
        yield Component("layers, bfloat16", host=2 * shape.in_layers)
    yield Component("gradients in transit", host=_transit_buffers(shape))


def _pinned(inputs: int, shape: Shape, machine: Machine) -> int:
    """Return the bytes of all layer inputs in host memory; torch rounds pinned sizes up to powers of two."""
    one = inputs // shape.layers
    return inputs if machine.is_shared else shape.layers * (1 << (one - 1).bit_length())


def _transit_buffers(shape: Shape) -> int:
    """Return the bytes of the pinned buffers, limited by the largest gradient."""
    return BUFFERS * min(BUFFER_BYTES, 4 * max(shape.embedding, shape.head, shape.largest_matrix))


def _disk_components(traced: _Traced) -> Iterator[Component]:
    step = traced.step
    yield Component("two checkpoints", disk=2 * (step.trained + traced.state))
    if traced.settings.early_stopping.metric:
        yield Component("the best weights, twice", disk=2 * step.trained)
    name, beside = ("adapter and merged model", step.trained) if traced.adapter else ("the model", 0)
    yield Component(name, disk=2 * traced.shape.total + beside)


def _work(traced: _Traced, block_size: int, coverage: AdapterShares | None) -> Work:
    """Compute operations, transfers and the host's memory traffic of a stage.

    The host's step reads gradients, copies and moments and writes copies, moments and bfloat16 weights: 30 bytes per
    parameter with moments in float32.
    """
    settings, shape, step = traced.settings, traced.shape, traced.step
    size = AdapterSize(step.numbers, coverage.in_experts if coverage else 0) if traced.adapter else None
    sent = 2 * step.numbers if settings.cpu_offload != "none" else 0
    fetched, staying = (2 * 2 * shape.in_layers, 2 * shape.in_layers) if settings.cpu_offload == "layers" else (0, 0)
    kept = 2 * step.inputs if settings.activation_checkpointing == "offload" else 0
    return Work(
        flops=flops(shape, settings, block_size, size),
        row_tokens=block_size,
        batch_size=settings.batch_size,
        micro_batch_size=settings.micro_batch_size,
        pass_bytes=sent + fetched + kept,
        # New weights of offloaded layers stay on the host.
        step_bytes=max(0, sent - staying),
        host_bytes=2 * traced.state + (4 + 2) * step.numbers if sent else 0,
        host_seconds=_on_one_core(step.numbers, shape, settings) if sent else 0.0,
    )


def _on_one_core(numbers: int, shape: Shape, settings: TrainingConfig) -> float:
    """Return the seconds of the host's step on one core; embeddings keep float32 moments with 8-bit optimizers."""
    plain = shape.embedding if settings.optimizer == "adamw-8bit" else 0
    return (numbers - plain) * HOST_STEP[settings.optimizer] + plain * HOST_STEP["adamw"]


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
