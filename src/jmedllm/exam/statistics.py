"""Scores with the uncertainty that their number of items leaves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from jmedllm.exam.question import Language, Question


@dataclass(frozen=True, slots=True)
class Score:
    """One metric over the items of one benchmark in one language. All values are shares from 0 to 1.

    Attributes:
        low: lower end of the 95 % interval of `value`.
        high: its upper end.
        floor: what no skill at all earns on these items.
        ceiling: what a perfect answer earns on these items.
    """

    benchmark: str
    language: Language
    track: str
    metric: str
    n: int
    correct: int
    value: float
    low: float
    high: float
    floor: float
    ceiling: float


def score(
    questions: Sequence[Question],
    *,
    track: str,
    metric: str,
    right: Sequence[bool],
    floor: float,
    ceiling: float,
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
    return Score(benchmark, language, track, metric, n, correct, correct / n, low, high, floor, ceiling)


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
