"""Sharded training: each process has a shard of every parameter and reads a part of the rows of each step.

Sharding is FSDP (Zhao et al. 2023, arXiv 2304.11277) through torch's `fully_shard`. The parameters of one decoder
layer at a time are gathered for use and then freed. Each process keeps its shard of the gradients and optimizer
moments. Gradients are summed, not averaged, because the loss of a step is divided by the number of trained tokens of
all processes. With one process, nothing is sharded.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from types import MethodType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from jmedllm.models.layers import decoder_layers
from jmedllm.precision import Precision
from jmedllm.processes import is_main_process, rank, receive, send, summed
from jmedllm.training.batches import Batch, micro_batches
from jmedllm.training.memory import OffloadedEmbedding
from jmedllm.training.packing import Blocks

T = TypeVar("T")

Load = Callable[[torch.device], Any]
"""Loads the network to train onto a device."""

Gather = Callable[[], Any | None]
"""Called by all processes; returns the unsharded network with its current weights in the first process, None in the
others."""

_FORWARD = "jmedllm_forward"


def shard(load: Load, precision: Precision) -> tuple[Any, Gather]:
    """Load a network and shard it over the processes; with one process, only load it.

    Only the first process loads the network. It keeps a copy in host memory, which `gather` updates. The other
    processes receive the structure, then all receive their shards, one parameter at a time.

    Raises:
        InputError: `load` fails, or the decoder layers of the architecture are not known.
    """
    if rank().world_size == 1:
        network = load(precision.device)
        return network, lambda: network
    whole = load(torch.device("cpu")) if is_main_process() else None
    network = _structure(whole)
    _shard_layers(network, precision)
    _fill(network, whole, precision.device)

    def gather() -> Any | None:
        with torch.no_grad():
            targets = dict(whole.named_parameters()) if whole is not None else {}
            for name, parameter in network.named_parameters():
                if parameter.requires_grad:
                    value = gather_full(parameter)
                    if name in targets:
                        targets[name].copy_(value)
        return whole

    return network, gather


def _structure(whole: Any | None) -> Any:
    """Send the structure of the first process's network, without parameter values, to all processes."""
    if whole is None:
        return receive()
    # Detached 4-bit weights are plain bytes; their layer, which every process receives, has the quantization state.
    empty = {id(p): torch.nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in whole.parameters()}
    network = deepcopy(whole, empty)
    send(network)
    return network


def _shard_layers(network: Any, precision: Precision) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
    from torch.distributed.tensor import DTensor

    if precision.device.type == "cuda":
        torch.cuda.set_device(precision.device)
    mesh = init_device_mesh(precision.device.type, (rank().world_size,))
    # Layer weights are communicated in the dtype of the matrix products. Embedding, head and hidden states keep
    # their own dtype, as under autocast in a single process.
    multiplied = None if precision.dtype == torch.float32 else precision.dtype
    policy = MixedPrecisionPolicy(multiplied, torch.float32, cast_forward_inputs=False)
    for layer in decoder_layers(network):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    # A frozen embedding or head has no gradient to share, and FSDP would keep it gathered for the whole step, so an
    # unsharded copy needs less memory. Tied weights are left to FSDP, which handles parameters used twice.
    uses = Counter(id(p) for _, p in network.named_parameters(remove_duplicate=False))
    frozen = {p for p in network.parameters() if not (p.requires_grad or isinstance(p, DTensor)) and uses[id(p)] == 1}
    fully_shard(network, mesh=mesh, ignored_params=frozen)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            # Otherwise FSDP multiplies by a factor before the sum, which gloo does not support.
            module.set_force_sum_reduction_for_comms(True)
    setattr(network, _FORWARD, MethodType(_call, network))
    register_fsdp_forward_method(network, _FORWARD)


@torch.no_grad()
def _fill(network: Any, whole: Any | None, device: torch.device) -> None:
    """Copy the parameter values of the first process into the shards of all processes."""
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor, distribute_tensor

    network._apply(lambda tensor: torch.empty_like(tensor, device=device) if tensor.is_meta else tensor.to(device))
    for module in network.modules():
        if getattr(module, "quant_state", None) is not None:
            module.quant_state.to(device)
        if isinstance(module, OffloadedEmbedding):
            module.cpu()
    values = dict(whole.named_parameters()) if whole is not None else {}
    for name, parameter in network.named_parameters():
        home = device if isinstance(parameter, DTensor) else parameter.device
        value = values[name].detach().to(home) if values else torch.empty(parameter.shape, device=home)
        value = value.to(parameter.dtype)
        if isinstance(parameter, DTensor):
            parts = distribute_tensor(value, parameter.device_mesh, parameter.placements)
            parameter.to_local().copy_(parts.to_local())
        else:
            dist.broadcast(value, 0)
            parameter.copy_(value)


def _call(network: Any, function: Callable[..., T], *arguments: Any) -> T:
    return function(network, *arguments)


def in_forward(network: Any, function: Callable[..., T], *arguments: Any) -> T:
    """Run `function(network, *arguments)` as one forward pass, in which it may call submodules directly.

    FSDP gathers weights only at the start of a registered forward method.
    """
    if not is_sharded(network):
        return function(network, *arguments)
    result: T = getattr(network, _FORWARD)(function, *arguments)
    if not torch.is_grad_enabled():
        # Without a backward pass, embedding and head would stay gathered.
        network.reshard()
    return result


def is_sharded(network: Any) -> bool:
    """Return whether the network is sharded over several processes."""
    return hasattr(network, _FORWARD)


def local_micro_batches(
    blocks: Blocks, rows: npt.NDArray[np.int64], size: int, device: torch.device
) -> Iterator[Batch]:
    """Yield this process's micro-batches of a step.

    With one process, micro-batches without a trained token are left out. With several, all processes get the same
    number of micro-batches, because all must run as many forward and backward passes; a process that has no rows left
    gets a row without trained tokens.
    """
    here = rank()
    if here.world_size == 1:
        yield from (batch for batch in micro_batches(blocks, rows, size, device) if batch[2].any())
        return
    yield from micro_batches(blocks, rows[here.global_rank :: here.world_size], size, device)
    most, own = (-(-len(rows[number :: here.world_size]) // size) for number in (0, here.global_rank))
    for _ in range(most - own):
        [(ids, positions, trained)] = micro_batches(blocks, rows[:1], 1, device)
        yield ids, positions, torch.zeros_like(trained)


def gather_full(tensor: torch.Tensor) -> torch.Tensor:
    """Return the full tensor of a tensor that may be sharded; called by all processes."""
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_shard(tensor: torch.Tensor) -> torch.Tensor:
    """Return a view of the local shard of a tensor, or the tensor itself if it is not sharded."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def is_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Return whether all elements of these tensors are finite in all processes."""
    return summed(sum(not bool(local_shard(tensor).isfinite().all()) for tensor in tensors)) == 0


def seed_step(seed: int, step: int) -> None:
    """Seed the random generator of each process from the step; does nothing with one process.

    Because the seed follows from the step, checkpoints need not store random states.
    """
    here = rank()
    if here.world_size > 1:
        torch.manual_seed(int(np.random.SeedSequence([seed, step, here.global_rank]).generate_state(1)[0]))
