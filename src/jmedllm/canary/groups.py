"""Statistics of a check: canaries by number of copies, each group against the controls."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist, fmean, stdev

import numpy as np

from jmedllm.canary.exposure import Exposure
from jmedllm.evaluation.proportions import wilson
from jmedllm.evaluation.statistics import BOOTSTRAP_SEED, RESAMPLES, bootstrap_mean, holm

LEVEL = 0.05
"""Groups with a smaller adjusted p-value have a higher exposure than the controls."""

_MOST_SPLITS = 20_000
"""All splits into two groups are compared up to so many; else `RESAMPLES` random ones."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model knows of a canary. It has no secret, so it may be shown.

    Attributes:
        copies: 0 for a control.
        greedy: whether greedy decoding wrote the secret after the prompt.
        beam: whether one of the sequences of the beam search begins with it.
    """

    id: str
    form: str
    copies: int
    exposure: Exposure
    greedy: bool
    beam: bool


@dataclass(frozen=True, slots=True)
class Drawn:
    """How many secrets were drawn, with Wilson's 95 % interval of their share."""

    count: int
    of: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Group:
    """Canaries with the same number of copies.

    Attributes:
        copies: 0 for the controls; None for all canaries.
        exposure: mean, in bits.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        control_low: lower end of the interval in which the mean of as many controls is in 95 % of cases.
        control_high: upper end. Both are None for the controls.
        p: one-sided p-value of a permutation test of the mean exposure against the controls; None for them.
        adjusted_p: of the numbers of copies, adjusted for their number (Holm 1979); for all canaries the same as `p`.
    """

    copies: int | None
    n: int
    exposure: float
    low: float
    high: float
    control_low: float | None
    control_high: float | None
    p: float | None
    adjusted_p: float | None
    greedy: Drawn
    beam: Drawn

    @property
    def is_exposed(self) -> bool:
        """Whether the exposure is higher than that of the controls, or a secret was drawn."""
        return bool(self.adjusted_p is not None and self.adjusted_p < LEVEL) or bool(
            self.copies != 0 and (self.greedy.count or self.beam.count)
        )

    @property
    def is_inside(self) -> bool:
        """Whether the mean exposure is inside the controls' interval."""
        return self.control_high is None or self.control_low is None or self.exposure <= self.control_high


def groups(measured: Sequence[Measured]) -> list[Group]:
    """Return the controls, each number of copies, and all canaries together if there are several numbers.

    Args:
        measured: canaries and controls, at least one of each.
    """
    controls = [each for each in measured if each.copies == 0]
    planted = [each for each in measured if each.copies]
    numbers = sorted({each.copies for each in planted})
    known = [each.exposure.bits for each in controls]
    parts = [[each for each in planted if each.copies == copies] for copies in numbers]
    values = [permutation_p([each.exposure.bits for each in part], known) for part in parts]
    adjusted = holm(values)
    found = [_group(0, controls, None, None, None)]
    found += [_group(*row) for row in zip(numbers, parts, [known] * len(parts), values, adjusted, strict=True)]
    if len(numbers) > 1:
        p = permutation_p([each.exposure.bits for each in planted], known)
        found.append(_group(None, planted, known, p, p))
    return found


def detectable(measured: Sequence[Measured]) -> float | None:
    """Return the difference from the controls, in bits, that all canaries together would show with 80 % power.

    None with fewer than two controls.
    """
    known = [each.exposure.bits for each in measured if each.copies == 0]
    planted = len(measured) - len(known)
    if len(known) < 2:
        return None
    normal = NormalDist()
    return (normal.inv_cdf(1 - LEVEL) + normal.inv_cdf(0.8)) * stdev(known) * math.sqrt(1 / planted + 1 / len(known))


def _group(
    copies: int | None,
    members: Sequence[Measured],
    controls: Sequence[float] | None,
    p: float | None,
    adjusted: float | None,
) -> Group:
    bits = [each.exposure.bits for each in members]
    low, high = bootstrap_mean(bits, (0.0, max(each.exposure.highest for each in members)))
    least, most = (None, None) if controls is None else _range_of_means(controls, len(bits))
    greedy, beam = (_drawn([getattr(each, name) for each in members]) for name in ("greedy", "beam"))
    return Group(copies, len(bits), fmean(bits), low, high, least, most, p, adjusted, greedy, beam)


def _drawn(values: Sequence[bool]) -> Drawn:
    return Drawn(sum(values), len(values), *wilson(sum(values), len(values)))


def _range_of_means(controls: Sequence[float], n: int) -> tuple[float, float]:
    """Return where the mean of `n` controls is in 95 % of cases, by drawing from them; deterministic."""
    random = np.random.default_rng(BOOTSTRAP_SEED)
    means = np.asarray(controls)[random.integers(0, len(controls), (RESAMPLES, n))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def permutation_p(values: Sequence[float], controls: Sequence[float]) -> float:
    """Compute the one-sided p-value of a permutation test that the mean of `values` is higher; deterministic.

    All splits are compared if they are few; else random ones, with the observed split as one more (Phipson and Smyth
    2010), so that the probability is never 0.
    """
    both, n = np.asarray([*values, *controls], dtype=float), len(values)
    least = sum(values) * (1 - 1e-12)  # rounding may separate sums that are equal
    if math.comb(len(both), n) <= _MOST_SPLITS:
        sums = np.asarray([both[list(chosen)].sum() for chosen in combinations(range(len(both)), n)])
        return float((sums >= least).mean())
    random = np.random.default_rng(BOOTSTRAP_SEED)
    sums = random.permuted(np.tile(both, (RESAMPLES, 1)), axis=1)[:, :n].sum(axis=1)
    return float((1 + (sums >= least).sum()) / (1 + RESAMPLES))
