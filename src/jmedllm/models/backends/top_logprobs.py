"""What a list of only the likeliest next tokens tells of labels."""

import math
from collections.abc import Sequence

UNLISTED = -1e9
"""Stands for the log-probability of a label of which no spelling is listed: only known to be less than any that
is. No real one is as low. Not minus infinity, which JSON cannot hold."""


def from_listed(found: Sequence[Sequence[float]]) -> tuple[float, ...] | None:
    """Log-probability of each label from those of its spellings that are listed; None if no label has any.

    A label that is listed at all is taken for likelier than every one that is not. How much likelier is unknown:
    a probability among the choices cannot be had from `UNLISTED`.
    """
    return tuple(log_sum(values) if values else UNLISTED for values in found) if any(found) else None


def log_sum(values: Sequence[float]) -> float:
    """Log-probability of any of several events that exclude each other."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
