"""Log-probabilities of labels from a list of the most likely next tokens."""

import math
from collections.abc import Sequence

UNLISTED = -1e9
"""Used as the log-probability of a label none of whose spellings is listed. It is lower than any real one. It is not
minus infinity because JSON has no such number."""


def from_listed(found: Sequence[Sequence[float]]) -> tuple[float, ...] | None:
    """Compute the log-probability of each label from its listed spellings; None if no label has one.

    A listed label counts as more likely than every label that is not listed. How much more likely is unknown:
    `UNLISTED` cannot be turned into a probability among the choices.
    """
    return tuple(log_sum(values) if values else UNLISTED for values in found) if any(found) else None


def log_sum(values: Sequence[float]) -> float:
    """Compute the log-probability that any of several mutually exclusive events occurs."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
