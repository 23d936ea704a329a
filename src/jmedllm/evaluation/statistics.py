"""Scores with the uncertainty that their number of items leaves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist

import numpy as np

from jmedllm.evaluation.question import Language, Question


@dataclass(frozen=True, slots=True)
class Score:
    """One metric over the items of one benchmark in one language. All values are shares from 0 to 1.

    Attributes:
        low: lower end of the 95 % interval of `value`.
        high: its upper end.
        floor: what no skill at all earns on these items.
        ceiling: what a perfect answer earns on these items.
        no_answer: items on which the response was taken for no answer; they count as wrong.
    """

    benchmark: str
    language: Language
    scorer: str
    metric: str
    n: int
    correct: int
    value: float
    low: float
    high: float
    floor: float
    ceiling: float
    no_answer: int = 0


def score(
    questions: Sequence[Question],
    *,
    scorer: str,
    metric: str,
    right: Sequence[bool],
    floor: float,
    ceiling: float,
    no_answer: int = 0,
) -> Score:
    """Build the score of `right` (one verdict per question) with its 95 % interval.

    Raises:
        ValueError: there are no questions, they are not all of one benchmark and language, or `right` is
            not as long as they are.
    """
    sets = {(question.benchmark, question.language) for question in questions}
    if len(sets) != 1 or len(right) != len(questions):
        raise ValueError(f"{len(right)} verdicts on {len(questions)} questions of {sets or 'no benchmark'}")
    benchmark, language = sets.pop()
    n, correct = len(right), sum(right)
    low, high = wilson(correct, n)
    return Score(benchmark, language, scorer, metric, n, correct, correct / n, low, high, floor, ceiling, no_answer)


def share(right: Sequence[bool]) -> float:
    """Share of right items; at least one item."""
    return sum(right) / len(right)


def wilson(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for `correct` of `n` (Wilson 1927), without continuity correction.

    Equal to scipy's `binomtest(...).proportion_ci(method="wilson")`, whose import takes a second.

    Raises:
        ValueError: not 0 <= correct <= n, or n is 0.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} right of {n} items is not a proportion")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = correct / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    margin = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # Rounding may leave 1e-17 where the interval ends at 0 or 1 exactly.
    low = 0.0 if correct == 0 else centre - margin
    high = 1.0 if correct == n else centre + margin
    return low, high


RESAMPLES, BOOTSTRAP_SEED = 10_000, 0


def bootstrap_sum(values: Sequence[float], confidence: float = 0.95) -> tuple[int, int]:
    """Percentile bootstrap interval (Efron 1979) of the sum of whole numbers, such as points; the same each time.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to draw from")
    draws = np.random.default_rng(BOOTSTRAP_SEED).integers(0, len(values), (RESAMPLES, len(values)))
    sums = np.asarray(values)[draws].sum(axis=1)
    tail = 100 * (1 - confidence) / 2
    return int(np.percentile(sums, tail)), int(np.percentile(sums, 100 - tail))


@dataclass(frozen=True, slots=True)
class Paired:
    """Two answerers on the same items.

    Attributes:
        both: items that both got right.
        only_first: items that only the first got right.
        only_second: items that only the second got right.
        difference: share right of the second minus that of the first.
        low: lower end of the difference's 95 % interval.
        high: its upper end.
        p: two-sided exact McNemar probability of so uneven a split where both are equally good.
        detectable: smallest difference that this many items, disagreeing this often, show in four of five
            experiments at the 5 % level.
    """

    n: int
    both: int
    only_first: int
    only_second: int
    difference: float
    low: float
    high: float
    p: float
    detectable: float

    @property
    def first(self) -> float:
        """Share right of the first."""
        return (self.both + self.only_first) / self.n

    @property
    def second(self) -> float:
        """Share right of the second."""
        return (self.both + self.only_second) / self.n


def paired(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Compare two answerers item by item.

    Interval: Bonett and Price (2012), which adds one to both kinds of disagreement. Test: McNemar (1947), exact.

    Raises:
        ValueError: the two are not of one length, or empty.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} verdicts are no pairs")
    n = len(first)
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    won = sum(b and not a for a, b in zip(first, second, strict=True))
    normal = NormalDist()
    p_lost, p_won = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    error = math.sqrt((p_lost + p_won - (p_won - p_lost) ** 2) / (n + 2))
    margin = normal.inv_cdf(0.975) * error
    centre = p_won - p_lost
    # Of a true difference d, disagreements p vary with variance (p - d^2) / n; d is small beside p.
    detectable = (normal.inv_cdf(0.975) + normal.inv_cdf(0.8)) * math.sqrt((p_lost + p_won) / n)
    return Paired(
        n,
        sum(a and b for a, b in zip(first, second, strict=True)),
        lost,
        won,
        (won - lost) / n,
        max(-1.0, centre - margin),
        min(1.0, centre + margin),
        mcnemar(lost, won),
        min(1.0, detectable),
    )


def mcnemar(lost: int, won: int) -> float:
    """Two-sided exact McNemar probability: of `lost + won` fair coins, so uneven a split or a worse one."""
    n = lost + won
    tail = sum(math.comb(n, k) for k in range(min(lost, won) + 1))
    # Integers: 2 ** -n is 0 as a float beyond 1,074 disagreements.
    return min(1.0, float(Fraction(2 * tail, 2**n)))


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities adjusted for having tested them all (Holm 1979), in their order."""
    adjusted = [0.0] * len(probabilities)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(probabilities)), key=lambda i: probabilities[i])):
        worst = max(worst, min(1.0, (len(probabilities) - rank) * probabilities[index]))
        adjusted[index] = worst
    return adjusted
