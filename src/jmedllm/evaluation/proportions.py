"""Intervals of shares of right responses: Wilson's, also with several responses to each item."""

import math
from collections.abc import Sequence
from statistics import NormalDist


def wilson(correct: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Compute Wilson's score interval for `correct` of `n` (Wilson 1927), without continuity correction.

    The result equals scipy's `binomtest(...).proportion_ci(method="wilson")`, whose import takes a second.

    Raises:
        ValueError: not 0 <= correct <= n, or n is 0.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} right of {n} items is not a proportion")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    margin = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding may yield 1e-17 where the interval ends exactly at 0 or 1.
    low = 0.0 if correct == 0 else centre - margin
    high = 1.0 if correct == n else centre + margin
    return low, high


def clustered_error(means: Sequence[float]) -> float:
    """Compute the standard error of the mean of item means, clustered by item: sqrt(sum((m_i - m)^2)) / n.

    With equally many responses to each item this is the cluster-robust standard error of their mean (Liang and Zeger
    1986; Miller 2024, arXiv 2411.00640), without a factor for few clusters.
    """
    mean = math.fsum(means) / len(means)
    return math.sqrt(math.fsum((each - mean) ** 2 for each in means)) / len(means)


def clustered_interval(means: Sequence[float], samples: int) -> tuple[float, float]:
    """Compute the 95 % interval of the mean of item means, each the share of `samples` responses that are right.

    This is Wilson's interval with the effective number of responses m (1 - m) / error^2 in place of their number (Korn
    and Graubard 1998, for clustered surveys): between the number of items, if all responses to an item are equal, and
    that of responses, if they do not depend on the item. With one response to each item it is Wilson's interval. As
    there, the error has the factor of the t distribution, without which few items have too short an interval.
    """
    n, mean = len(means), math.fsum(means) / len(means)
    effective = float(n)
    if 0 < mean < 1 and n > 1:
        error = clustered_error(means) * math.sqrt(n / (n - 1)) * _t_over_normal(n - 1)
        effective = n * samples if error == 0 else min(n * samples, max(n, mean * (1 - mean) / error**2))
    return wilson(mean * effective, effective)


def _t_over_normal(freedom: int) -> float:
    """Return the 97.5 % quantile of the t distribution over that of the normal one (Abramowitz and Stegun 26.7.5)."""
    z = NormalDist().inv_cdf(0.975)
    return (
        1
        + (z**2 + 1) / (4 * freedom)
        + (5 * z**4 + 16 * z**2 + 3) / (96 * freedom**2)
        + (3 * z**6 + 19 * z**4 + 17 * z**2 - 15) / (384 * freedom**3)
    )
