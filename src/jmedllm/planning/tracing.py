"""Memory of a training step, from the step itself: it is run on tensors that have sizes but no contents.

So what a model keeps for its backward pass is not guessed from formulas: every architecture, number format and
adapter is counted as the training loop would make it.
"""

import weakref
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
from jmedllm.training.loss import chunked_loss, split
from jmedllm.training.memory import apply_activation_checkpointing
from jmedllm.training.optim.build import build, parts_of, set_gradient_dtypes
from jmedllm.training.optim.optimizer import TrainedParameter


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Memory of a step, in bytes.

    Attributes:
        frozen: weights that are not trained, and buffers.
        trained: weights that are.
        numbers: of these, counted as parameters.
        saved: tensors kept from the forward to the backward pass, the head's gradient included.
        inputs: of that, the inputs of the decoder layers, where these are computed again.
        forward: peak beside weights, gradients and optimizer state in the forward pass, `saved` included.
        backward: the same in the backward pass.
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
        """Peak beside weights, gradients and optimizer state."""
        return max(self.forward, self.backward)


def state_bytes(network: Any, settings: TrainingConfig) -> int:
    """Bytes of moments, and of copies of weights in another format.

    Args:
        network: what is trained, adapter included, with contents or without.
    """
    parts = parts_of(network, _at_home(settings)).values()
    return sum(tensor.nbytes for part in parts for tensor in part.state.values())


def trace_step(network: Any, settings: TrainingConfig, precision: Precision, block_size: int) -> StepMemory:
    """`measure_step` without contents.

    Args:
        network: what is trained, adapter included, on the device "meta"; it is of no use afterwards.
        settings: of the stage.
        precision: its device is not used: the sizes are those of the operations of a CPU.
        block_size: tokens of a row.
    """
    mode = FakeTensorMode()
    _give_sizes(network, mode)
    with mode:
        return measure_step(network, settings, precision, block_size)


def measure_step(network: Any, settings: TrainingConfig, precision: Precision, block_size: int) -> StepMemory:
    """Run one micro-batch of a stage, all of whose tokens are trained, and count the bytes of its tensors.

    Args:
        network: what is trained, adapter included, with contents or without.
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
            # What stays of a gradient is counted by its size; here it goes as soon as it is there.
            use = _step if settings.optimizer_in_backward else _drop
            part.weight.register_post_accumulate_grad_hook(lambda _, part=part, use=use: use(part))
        apply_activation_checkpointing(network, settings.activation_checkpointing)
        before = live.begin()
        ids = torch.zeros(settings.micro_batch_size, block_size, dtype=torch.long)
        # Two samples in a row: a row of one needs no mask to keep samples apart.
        positions = (torch.arange(block_size) % (block_size // 2)).expand(settings.micro_batch_size, -1)
        decoder, head = split(network)
        embedding = decoder.get_input_embeddings()
        with autocast(precision):
            hidden = decoder(input_ids=ids, position_ids=positions, attention_mask=None, use_cache=False)[0]
            # Layers hand on what the embedding gives them, in its format, whatever they compute in.
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


def _at_home(settings: TrainingConfig) -> TrainingConfig:
    """The settings of an optimizer that has all that it keeps beside the weights, and no hooks."""
    return settings.model_copy(update={"cpu_offload": "none", "optimizer_in_backward": False})


def _drop(part: TrainedParameter) -> None:
    part.weight.grad = None


@torch.no_grad()
def _step(part: TrainedParameter) -> None:
    """Temporary memory of an update: values in float32, and their rounded copy; AdamW works in place."""
    values = part.weight_format.read(part.weight, part.state)
    if values is not part.weight and all(values is not kept for kept in part.state.values()):
        torch.empty_like(part.weight)
    part.weight.grad = None


def extrapolate(few: StepMemory, twice: StepMemory, times: float) -> StepMemory:
    """A step of a model with `times` as many layers as the first of two, the second of which has twice as many.

    All layers being of one size, each figure grows by the same with each layer. What is at work does so before the
    loss is known and behind it, at one pace each: autocast keeps its copies of weights only until then.
    """
    pairs = zip(astuple(few), astuple(twice), strict=True)
    return StepMemory(*(round(one + (other - one) * (times - 1)) for one, other in pairs))


def _give_sizes(network: Any, mode: FakeTensorMode) -> None:
    """Put tensors that count as a CPU's in the place of those on "meta", shared ones shared."""
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
    """Counts the bytes of all tensors that are alive.

    Attributes:
        now: bytes.
        peak: the most since `begin`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def begin(self) -> int:
        """Let the peak begin at what is alive now."""
        self.peak = self.now
        return self.now

    def note(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, once, until it is gone."""
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
