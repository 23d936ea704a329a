"""Techniques that save GPU memory: activation checkpointing, layer offload and embedding offload.

Activation checkpointing keeps only the input of each decoder layer and recomputes the layer when its gradient is
due (Chen et al. 2016, arXiv 1604.06174). The inputs can be offloaded to host memory as well.

Layer offload keeps the weights of the decoder layers in host memory and prefetches each layer one ahead of its use,
in the forward and in the backward pass. At most three layers are on the GPU at once: the current one, the next one
and the remains of the previous one. Embedding, last norm and head stay on the GPU.

Embedding offload keeps the input embedding in host memory and sends only the rows of a batch's tokens to the GPU.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from jmedllm.errors import InputError
from jmedllm.models.layers import decoder_layers, decoder_of, inside_adapter
from jmedllm.training.config import ActivationCheckpointing
from jmedllm.training.copy_stream import CopyStream


def apply_activation_checkpointing(network: Any, mode: ActivationCheckpointing) -> None:
    """Enable activation checkpointing in the decoder layers; the results do not change.

    Args:
        network: a Hugging Face causal model, or a PEFT model around one.
        mode: none: keep all activations; recompute: keep only the input of each layer; offload: keep it in host
            memory, pinned if there is a GPU. Without a GPU, offload only adds a copy.
    """
    if mode == "none":
        return
    # transformers 5.23 renamed the method and warns about the old name; 5.17 has only the old one.
    enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    if mode == "offload":
        for module in network.modules():
            if hasattr(module, "_gradient_checkpointing_func"):
                module._gradient_checkpointing_func = _checkpoint_from_host


def _checkpoint_from_host(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Any:
    # Outside the checkpoint only its inputs are saved; activations inside are dropped as usual.
    with save_on_cpu(pin_memory=torch.cuda.is_available()):
        return checkpoint(function, *inputs, use_reentrant=False)


BLOCK = 2**30
"""Bytes of a pinned block. torch rounds pinned sizes up to a power of two, which would nearly double a single matrix
of 130 MiB."""

_ALIGNED = 512


@dataclass(frozen=True, slots=True)
class _Fetched:
    """Weights of a layer on the device, and the event to wait for before use (None without a GPU)."""

    weights: list[torch.Tensor]
    arrived: Any


class _Layers:
    """Layers of a network by index, and those that are on the device or being copied to it."""

    def __init__(self, layers: Sequence[torch.nn.Module], device: torch.device) -> None:
        self._device = device
        self._stream = CopyStream(device)
        self._parameters = [list(layer.parameters()) for layer in layers]
        if self._stream.is_cuda:
            _pin([p for own in self._parameters for p in own])
        self._at_home = [[p.data for p in own] for own in self._parameters]
        self._fetched: dict[int, _Fetched] = {}
        self._in_use: int | None = None
        for number, layer in enumerate(layers):
            # Hook the submodules: whether the layer's own hooks run on recomputation depends on transformers.
            for module in layer.modules():
                if module._parameters:
                    module.register_forward_pre_hook(lambda *_, number=number: self._use(number))
            layer.register_forward_hook(lambda *_, number=number: self._leave(number))
            for parameter, home in zip(self._parameters[number], self._at_home[number], strict=True):
                parameter.register_post_accumulate_grad_hook(lambda p, home=home: _send_home(p, home))

    def _use(self, number: int) -> None:
        """Point a layer to its weights on the device, and prefetch the next one."""
        if self._in_use == number:
            return
        self._in_use = number
        self._fetch(number)
        here = self._fetched.pop(number)
        self._stream.wait_for(here.arrived)
        for parameter, weight in zip(self._parameters[number], here.weights, strict=True):
            parameter.data = weight
        self._fetch(number - 1 if _is_backward_pass() else number + 1)

    def _fetch(self, number: int) -> None:
        if number in self._fetched or not 0 <= number < len(self._parameters):
            return
        # Allocated on the compute stream, so that only this stream reuses their memory once they are freed.
        weights = [torch.empty_like(home, device=self._device) for home in self._at_home[number]]
        self._stream.wait_for_computation()
        with self._stream.use():
            for weight, home in zip(weights, self._at_home[number], strict=True):
                weight.copy_(home, non_blocking=True)
        self._fetched[number] = _Fetched(weights, self._stream.record())

    def _leave(self, number: int) -> None:
        """Free the weights after a forward pass. In a backward pass the layer is recomputed and its weights are needed
        until their gradients are complete."""
        if not _is_backward_pass():
            self._in_use = None
            for parameter, home in zip(self._parameters[number], self._at_home[number], strict=True):
                _send_home(parameter, home)

    def begin(self) -> None:
        """Discard fetched layers, because their weights may have changed since the last pass."""
        self._stream.wait()  # pending copies must finish before their memory is freed
        self._fetched.clear()
        self._in_use = None


def offload_layers(network: Any, device: torch.device) -> None:
    """Keep the weights of the decoder layers in host memory and fetch each layer when it is used.

    The host memory is pinned if there is a GPU. All other parameters move to `device`. Between two passes the
    parameters of every layer are on the host, and the next pass uses changes to them.

    Args:
        network: a Hugging Face causal model on the CPU, with activation checkpointing.
    """
    layers = decoder_layers(network)
    in_layers = {id(tensor) for layer in layers for tensor in layer.parameters()}
    for module in network.modules():
        for parameter in module._parameters.values():
            if parameter is not None and id(parameter) not in in_layers:
                parameter.data = parameter.data.to(device)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)
    streamed = _Layers(layers, device)
    decoder_of(network).register_forward_pre_hook(lambda *_: streamed.begin())


def _pin(parameters: Sequence[torch.nn.Parameter], size: int = BLOCK, pinned: bool = True) -> None:
    """Move parameters on the host into pinned blocks of `size` bytes, or larger if one parameter needs more."""
    block = torch.empty(0, dtype=torch.uint8)
    for parameter in parameters:
        needed = -(-parameter.nbytes // _ALIGNED) * _ALIGNED
        if len(block) < needed:
            block = torch.empty(max(size, needed), dtype=torch.uint8, pin_memory=pinned)
        place = block[: parameter.nbytes].view(parameter.dtype).view(parameter.shape)
        block = block[needed:]
        place.copy_(parameter.data)
        parameter.data = place


def _send_home(parameter: torch.nn.Parameter, home: torch.Tensor) -> None:
    parameter.data = home


def _is_backward_pass() -> bool:
    # torch's checkpointing uses the same check; there is no public function for it.
    return torch._C._current_graph_task_id() != -1


class OffloadedEmbedding(torch.nn.Module):
    """Looks up ids on the device of the weights and returns the rows on the device of the ids.

    The weights are not pinned, because only a new tensor of the gathered rows is copied.
    """

    def __init__(self, embedding: Any) -> None:
        super().__init__()
        self.embedding = embedding.cpu()

    @property
    def weight(self) -> torch.nn.Parameter:
        """Weights of the embedding, [V, H]."""
        weight: torch.nn.Parameter = self.embedding.weight
        return weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return embeddings [..., H] of ids [...]."""
        rows: torch.Tensor = self.embedding(ids.to(self.weight.device))
        return rows.to(ids.device)


def offload_embedding(network: Any) -> Any:
    """Keep the input embedding of a network in host memory; return the network.

    Args:
        network: a Hugging Face causal model, or a PEFT model around one; its embedding is frozen.

    Raises:
        InputError: the embedding is trained or tied, see `require_untied_embedding`.
    """
    base = inside_adapter(network)
    require_untied_embedding(base)
    embedding = base.get_input_embeddings()
    if embedding.weight.requires_grad:
        raise InputError("offload_embedding: true needs a frozen embedding, but this one is trained; leave it out")
    base.set_input_embeddings(OffloadedEmbedding(embedding))
    return network


def require_untied_embedding(network: Any) -> None:
    """Check that the embedding is not tied to the output head, which computes on the GPU.

    Raises:
        InputError: they share their weights.
    """
    head = network.get_output_embeddings()
    if head is not None and head.weight is network.get_input_embeddings().weight:
        raise InputError(
            "offload_embedding: true saves no GPU memory here: the base's embedding shares its weights with the "
            "output head; leave it out"
        )
