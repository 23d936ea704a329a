"""Packed rows on their way to the network."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jmedllm.precision import Precision
from jmedllm.training.packing import Blocks

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Ids, positions and whether the token is trained, each [B, T]."""


def micro_batches(blocks: Blocks, rows: npt.NDArray[np.int64], size: int, device: torch.device) -> Iterator[Batch]:
    """The chosen rows, `size` at a time, on `device`."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield (
            torch.from_numpy(blocks.ids[part]).long().to(device),
            torch.from_numpy(blocks.positions[part]).long().to(device),
            torch.from_numpy(blocks.trained[part]).to(device),
        )


def autocast(precision: Precision) -> AbstractContextManager[Any]:
    """Matrix products in `precision`, whatever the parameters are stored in."""
    if precision.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(precision.device.type, precision.dtype)


def without_dropout(network: Any) -> None:
    """Let the network evaluate, and compute as it does when trained, only without dropout."""
    network.eval()
    for module in network.modules():
        # Evaluated 4-bit weights are packed on a CPU: they round otherwise and have no backward. peft's layers
        # around them have the same class name, and `train()` would reach the dropout within.
        if type(module).__module__.startswith("bitsandbytes."):
            module.training = True


@contextmanager
def evaluating(network: Any) -> Iterator[None]:
    """The network without dropout and gradients for a while; no random number of the training is used up."""
    was_training = network.training
    without_dropout(network)
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        try:
            with torch.no_grad():
                yield
        finally:
            network.train(was_training)
