"""Learning rate, rows and micro-batches of each optimizer step.

The learning rate and the rows depend only on the step number, so a resumed run needs no other state.
"""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jmedllm.precision import Precision
from jmedllm.training.packing import Blocks


def learning_rate(step: int, total: int, peak: float, warmup_steps: int, floor: float = 0.1) -> float:
    """Compute the learning rate of a step: linear warm-up to `peak`, then cosine decay to `floor * peak`.

    Args:
        step: index of the step, from 0.
        total: number of steps of the run.
        peak: highest learning rate.
        warmup_steps: number of steps until `peak` is reached.
        floor: learning rate of the last step, as a fraction of `peak`.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total - 1 - warmup_steps)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def rows_of_step(step: int, batch: int, available: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the indices of the rows of one step; every epoch is a new permutation, and a step may span two epochs."""
    first = step * batch
    wanted = np.arange(first, first + batch)
    epochs = {int(epoch): _permutation(int(epoch), available, seed) for epoch in np.unique(wanted // available)}
    return np.array([epochs[int(i // available)][i % available] for i in wanted], dtype=np.int64)


@lru_cache(maxsize=2)  # a step may span two epochs
def _permutation(epoch: int, available: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(available)


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Token ids, positions and loss mask, each [B, T]."""


def micro_batches(blocks: Blocks, rows: npt.NDArray[np.int64], size: int, device: torch.device) -> Iterator[Batch]:
    """Yield the selected rows in micro-batches of `size` rows on `device`."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield (
            torch.from_numpy(blocks.ids[part]).long().to(device),
            torch.from_numpy(blocks.positions[part]).long().to(device),
            torch.from_numpy(blocks.loss_mask[part]).to(device),
        )


def autocast(precision: Precision) -> AbstractContextManager[Any]:
    """Compute matrix products in `precision`, whatever the dtype of the parameters."""
    if precision.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(precision.device.type, precision.dtype)


def without_dropout(network: Any) -> None:
    """Disable dropout, and otherwise compute exactly as in training."""
    network.eval()
    for module in network.modules():
        # In eval mode bitsandbytes packs 4-bit weights on a CPU, which rounds differently and has no backward pass.
        # Set the flag directly: peft's wrappers have the same class name, and `train()` would enable their dropout.
        if type(module).__module__.startswith("bitsandbytes."):
            module.training = True


@contextmanager
def evaluating(network: Any) -> Iterator[None]:
    """Disable dropout and gradients inside the block, and leave the random state of the training unchanged."""
    was_training = network.training
    without_dropout(network)
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []):
        try:
            with torch.no_grad():
                yield
        finally:
            network.train(was_training)
