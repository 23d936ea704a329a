"""Trace the memory of a training step by running it on fake tensors, which have sizes but no values.

The memory of the backward pass therefore needs no formulas: tracing covers every architecture, dtype and adapter that
the training loop supports.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jmedllm.models.layers import decoder_layers
from jmedllm.precision import Precision
from jmedllm.training.batches import autocast
from jmedllm.training.config import TrainingConfig
from jmedllm.training.isolation import PackedRows, Segments, hidden_states, isolate
from jmedllm.training.loss import chunked_loss, split
from jmedllm.training.memory import apply_activation_checkpointing
from jmedllm.training.optim.build import build, parts_of, set_gradient_dtypes
from jmedllm.training.optim.optimizer import TrainedParameter
from jmedllm.training.trainable import choose_isolation


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Memory of a training step in bytes.

    Attributes:
        frozen: frozen weights, and buffers.
        trained: trained weights.
        numbers: number of trained parameters.
        saved: tensors saved for the backward pass, including the gradient of the head.
        inputs: part of `saved` that is inputs of decoder layers, with activation checkpointing.
        forward: peak of the forward pass without weights, gradients and optimizer state, including `saved`.
        backward: the same for the backward pass.
    """

    frozen: int
    trained: int
    numbers: int
    saved: int
    inputs: int
    forward: int
    backward: int

    @property
    def working(self) -> int:
        """Peak of the step without weights, gradients and optimizer state."""
        return max(self.forward, self.backward)


def state_bytes(network: Any, settings: TrainingConfig) -> int:
    """Return the bytes of moments and float32 copies of weights.

    Args:
        network: the trained network with its adapter, with or without values.
        settings: settings of the stage.
    """
    parts = parts_of(network, _at_home(settings)).values()
    return sum(tensor.nbytes for part in parts for tensor in part.state.values())


def trace_step(network: Any, settings: TrainingConfig, precision: Precision, block_size: int) -> StepMemory:
    """Run `measure_step` on fake tensors.

    Args:
        network: the trained network with its adapter on the device "meta"; it cannot be used afterwards.
        settings: settings of the stage.
        precision: dtype of the computation; sizes are those of CPU operations, whatever the device.
        block_size: tokens per row.
    """
    isolate(network, choose_isolation(network.config, torch.device("cpu")))
    mode = FakeTensorMode()
    _give_sizes(network, mode)
    with mode, _faked_experts():
        return measure_step(network, settings, precision, block_size)


@contextmanager
def _faked_experts() -> Iterator[None]:
    """Compute experts by transformers' own operator, which has a fake implementation for every dtype.

    PyTorch's grouped matrix product accepts only bfloat16 on fake tensors.
    """
    from transformers.integrations import moe

    usual = moe._can_use_grouped_mm
    moe._can_use_grouped_mm = lambda *_: False
    try:
        yield
    finally:
        moe._can_use_grouped_mm = usual


def measure_step(network: Any, settings: TrainingConfig, precision: Precision, block_size: int) -> StepMemory:
    """Run one micro-batch in which all tokens are trained, and count the bytes of its tensors.

    Args:
        network: the trained network with its adapter, with or without values.
        settings: settings of the stage.
        precision: dtype of the computation.
        block_size: tokens per row.
    """
    with _Live() as live:
        network.train()
        parameters = list(network.parameters())
        for tensor in (*parameters, *network.buffers()):
            live.note(tensor)
        weights = live.now
        trained = [p for p in parameters if p.requires_grad]
        parts = build(network, _at_home(settings), torch.device("cpu")).parts.values()
        set_gradient_dtypes(network, settings)
        for part in parts:
            # Gradients that are kept are counted separately, so free each one immediately.
            use = _step if settings.optimizer_in_backward else _drop
            part.weight.register_post_accumulate_grad_hook(lambda _, part=part, use=use: use(part))
        apply_activation_checkpointing(network, settings.activation_checkpointing)
        before = live.begin()
        ids = torch.zeros(settings.micro_batch_size, block_size, dtype=torch.long)
        # Two samples per row, because a row with one sample needs no mask.
        positions = (torch.arange(block_size) % (block_size // 2)).expand(settings.micro_batch_size, -1)
        packed = PackedRows(ids, positions, _two_per_row(settings.micro_batch_size, block_size))
        decoder, head = split(network)
        embedding = decoder.get_input_embeddings()
        with autocast(precision):
            hidden = hidden_states(decoder, packed)
            # Hidden states between layers have the dtype of the embedding, whatever the layers compute in.
            inputs = len(decoder_layers(network)) * hidden.numel() * embedding.weight.itemsize
            rows = hidden[:, :-1].reshape(-1, hidden.shape[-1]).clone()
            loss = chunked_loss(head, rows, ids[:, 1:].reshape(-1))
            del hidden, rows
        saved, forward = live.now - before, live.peak - before
        live.begin()
        loss.backward()
        del loss
        if settings.cpu_offload == "none":
            _step(max(parts, key=lambda part: part.weight.numel()))
    bytes_trained = sum(p.nbytes for p in trained)
    return StepMemory(
        frozen=weights - bytes_trained,
        trained=bytes_trained,
        numbers=sum(p.numel() for p in trained),
        saved=saved,
        inputs=0 if settings.activation_checkpointing == "none" else inputs,
        forward=forward,
        backward=live.peak - before,
    )


def _two_per_row(rows: int, block_size: int) -> Segments:
    starts = [row * block_size + start for row in range(rows) for start in range(0, block_size, block_size // 2)]
    return Segments.of_starts(starts, rows * block_size)


def _at_home(settings: TrainingConfig) -> TrainingConfig:
    """Return settings for an optimizer without offload and without backward hooks."""
    return settings.model_copy(update={"cpu_offload": "none", "optimizer_in_backward": False})


def _drop(part: TrainedParameter) -> None:
    part.weight.grad = None


@torch.no_grad()
def _step(part: TrainedParameter) -> None:
    """Allocate the temporary memory of an update: values in float32 and their rounded copy; AdamW works in place."""
    values = part.weight_format.read(part.weight, part.state)
    if values is not part.weight and all(values is not kept for kept in part.state.values()):
        torch.empty_like(part.weight)
    part.weight.grad = None


def extrapolate(few: StepMemory, twice: StepMemory, times: float) -> StepMemory:
    """Extrapolate from two models, the second with twice as many layers, to `times` the layers of the first.

    All layers have the same size, so each figure grows linearly. Forward and backward grow separately, because
    autocast keeps its copies of weights only during the forward pass.
    """
    pairs = zip(astuple(few), astuple(twice), strict=True)
    return StepMemory(*(round(one + (other - one) * (times - 1)) for one, other in pairs))


def _give_sizes(network: Any, mode: FakeTensorMode) -> None:
    """Replace the tensors on "meta" by fake CPU tensors; shared ones stay shared."""
    made: dict[int, Any] = {}
    for module in network.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and id(parameter) not in made:
                fake = FakeTensor(mode, parameter.data, torch.device("cpu"))
                made[id(parameter)] = parameter, torch.nn.Parameter(fake, parameter.requires_grad)
            if parameter is not None:
                module._parameters[name] = made[id(parameter)][1]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = FakeTensor(mode, buffer, torch.device("cpu"))


class _Live(TorchDispatchMode):
    """Counts the bytes of all live tensors.

    Attributes:
        now: current bytes.
        peak: peak since `begin`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def begin(self) -> int:
        """Reset the peak to the current bytes, and return them."""
        self.peak = self.now
        return self.now

    def note(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage once, until it is freed."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor)
        return made
