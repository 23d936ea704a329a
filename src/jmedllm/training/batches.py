"""Learning rate, rows and micro-batches of each optimizer step.

Learning rate and rows depend only on the step number, so a resumed run needs no other state.
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
    """Linear warm-up over `warmup_ratio` steps, then a cosine from `peak` down to `floor` times `peak`.

    Args:
        step: number of the step, from 0.
        total: steps of the whole run.
        peak: highest rate.
        warmup_steps: steps until `peak` is reached.
        floor: share of `peak` at the last step.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total - 1 - warmup_steps)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def rows_of_step(step: int, batch: int, available: int, seed: int) -> npt.NDArray[np.int64]:
    """Indices of the rows of one step: every epoch is its own permutation, and steps cross epochs."""
    first = step * batch
    wanted = np.arange(first, first + batch)
    epochs = {int(epoch): _permutation(int(epoch), available, seed) for epoch in np.unique(wanted // available)}
    return np.array([epochs[int(i // available)][i % available] for i in wanted], dtype=np.int64)


@lru_cache(maxsize=2)  # a step may cross from one epoch to the next
def _permutation(epoch: int, available: int, seed: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(available)


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Ids, positions and whether the token is trained, each [B, T]."""


def micro_batches(blocks: Blocks, rows: npt.NDArray[np.int64], size: int, device: torch.device) -> Iterator[Batch]:
    """The chosen rows, `size` at a time, on `device`."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield (
            torch.from_numpy(blocks.ids[part]).long().to(device),
            torch.from_numpy(blocks.positions[part]).long().to(device),
            torch.from_numpy(blocks.loss_mask[part]).to(device),
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
