"""Exposure of a secret (Carlini et al. 2019, arXiv 1802.08232): how far up it is among the secrets of its form."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jmedllm.evaluation.proportions import wilson

Method = Literal["exact", "sampled"]

_LARGEST_SKEW = 0.995
"""The skewness of a skew-normal distribution is below this."""

_GRID, _TAIL = 20_000, 12.0


@dataclass(frozen=True, slots=True)
class Exposure:
    """Exposure in bits, from 0 to `highest`.

    Attributes:
        method: "exact" if the secret is ranked among all secrets of its form, "sampled" among some drawn at random.
        bits: log2(secrets ranked) - log2(rank); a model that knows nothing has 1.44 on average.
        low: lower end of the 95 % interval over the draw of the candidates; of an exact rank the same as `bits`.
        high: upper end of it, at most log2 of all secrets of the form.
        highest: exposure of the first rank.
        extrapolated: exposure among all secrets of the form, if the log-probabilities of the candidates have a
            skew-normal distribution; may exceed `highest`. None for an exact rank, or if they are all equal.
        rank: 1 for the most likely secret; ties count half.
    """

    method: Method
    bits: float
    low: float
    high: float
    highest: float
    extrapolated: float | None
    rank: float


def exposure(secret: float, others: Sequence[float], size: int) -> Exposure:
    """Rank the log-probability of a secret among those of candidates.

    Args:
        secret: log-probability of the secret, in nats.
        others: log-probabilities of other secrets of the form, at least one.
        size: number of secrets of the form, with this one.
    """
    n = len(others)
    above = float(sum(other > secret for other in others) + sum(other == secret for other in others) / 2)
    bits, highest = math.log2(n + 1) - math.log2(above + 1), math.log2(n + 1)
    if n + 1 >= size:
        return Exposure("exact", bits, bits, bits, highest, None, above + 1)
    least, most = wilson(above, n)
    total = math.log2(size)

    def of_share(share: float) -> float:
        """Return the exposure if this share of all secrets is above."""
        return total - math.log2(1 + share * (size - 1))

    return Exposure(
        "sampled", bits, of_share(most), of_share(least), highest, _extrapolated(secret, others, total), above + 1
    )


def _extrapolated(secret: float, others: Sequence[float], total: float) -> float | None:
    values = np.asarray(others, dtype=float)
    if len(values) < 3 or not np.isfinite(values).all() or values.std() == 0:
        return None
    location, scale, shape = fit_skew_normal(values)
    # Carlini et al. integrate over log-perplexities, of which small ones are likely; here the sign is the opposite.
    above = log_cdf_skew_normal(-(secret - location) / scale, -shape)
    return min(total, max(0.0, -above / math.log(2)))


def fit_skew_normal(values: np.ndarray) -> tuple[float, float, float]:
    """Fit location, scale and shape of a skew-normal distribution (Azzalini 1985) by the method of moments.

    Args:
        values: at least three numbers that are not all equal.
    """
    mean, deviation = float(values.mean()), float(values.std())
    skew = float(((values - mean) ** 3).mean()) / deviation**3
    skew = max(-_LARGEST_SKEW, min(_LARGEST_SKEW, skew))
    power = abs(skew) ** (2 / 3)
    delta = math.copysign(math.sqrt(math.pi / 2 * power / (power + ((4 - math.pi) / 2) ** (2 / 3))), skew)
    delta = max(-0.9999, min(0.9999, delta))
    scale = deviation / math.sqrt(1 - 2 * delta**2 / math.pi)
    return mean - scale * delta * math.sqrt(2 / math.pi), scale, delta / math.sqrt(1 - delta**2)


def log_cdf_skew_normal(z: float, shape: float) -> float:
    """Return the logarithm of the distribution function of a standard skew-normal distribution.

    It is integrated in logarithms, because the tail that a memorized secret is in underflows.
    """
    import torch

    start = min(z, 0.0) - _TAIL
    points = torch.linspace(start, z, _GRID, dtype=torch.float64)
    density = math.log(2 / math.sqrt(2 * math.pi)) - points**2 / 2 + torch.special.log_ndtr(shape * points)
    density[[0, -1]] -= math.log(2)  # trapezoids
    step = (z - start) / (_GRID - 1)
    return min(0.0, float(density.logsumexp(0)) + math.log(step))
