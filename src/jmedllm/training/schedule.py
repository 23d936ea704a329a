"""What each optimiser step sees: its learning rate and its rows. Both follow from the step number alone,
so a resumed run needs no other cursor."""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt


def learning_rate(step: int, total: int, peak: float, warmup: int, floor: float = 0.1) -> float:
    """Linear warm-up over `warmup_ratio` steps, then a cosine from `peak` down to `floor` times `peak`.

    Args:
        step: number of the step, from 0.
        total: steps of the whole run.
        peak: highest rate.
        warmup: steps until `peak` is reached.
        floor: share of `peak` at the last step.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - 1 - warmup)
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
