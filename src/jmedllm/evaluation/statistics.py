"""Scores with confidence intervals, and paired comparisons."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jmedllm.evaluation.proportions import clustered_interval, wilson
from jmedllm.evaluation.question import Language, Question


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with its range.

    Attributes:
        floor: score without any skill on these items; None if the scorer does not declare one.
        ceiling: score of perfect answers on these items.
        binary: whether each item's value is 0 or 1; declared by the scorer.
        constant_floor: score of the best constant answer on these items; None if the metric has none.
    """

    scorer: str
    name: str
    floor: float | None
    ceiling: float
    binary: bool = True
    constant_floor: float | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """One metric over the items of one benchmark in one language. All values are from 0 to 1.

    Attributes:
        n: number of items.
        correct: responses with the value 1.
        value: mean over the items; of a binary metric the share of right responses.
        low: lower end of the 95 % interval of `value` over items: Wilson's for a binary metric, else bootstrap.
        high: upper end of the interval.
        floor: score without any skill on these items; None if the scorer does not declare one.
        ceiling: score of perfect answers on these items.
        no_answer: responses without a readable answer; they count as wrong.
        binary: whether each item's value is 0 or 1.
        constant_floor: score of the best constant answer on these items, such as always the first choice; None for a
            metric or an evaluation without a constant answer.
        samples: number of responses to each item.
        truncated: number of responses that were cut off; None if the scorer reads no responses.
        responses: number of responses that the scorer reads; more than those of the metric if it leaves items out.
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
    floor: float | None
    ceiling: float
    no_answer: int = 0
    binary: bool = True
    constant_floor: float | None = None
    samples: int = 1
    truncated: int | None = None
    responses: int = 0


def score(metric: Metric, questions: Sequence[Question], values: Sequence[float], *, no_answer: int = 0) -> Score:
    """Build the score of `values`, one for each question, with its 95 % interval.

    A question with several responses is repeated for each; the interval is clustered by question then.

    Raises:
        ValueError: there are no questions, they are not all of one benchmark and language, there is not one value for
            each, or a value is outside what the metric allows.
    """
    sets = {(question.benchmark, question.language) for question in questions}
    if len(sets) != 1 or len(values) != len(questions):
        raise ValueError(f"{len(values)} values for {len(questions)} questions of {sets or 'no benchmark'}")
    benchmark, language = sets.pop()
    items: dict[str, list[float]] = {}
    for question, value in zip(questions, values, strict=True):
        items.setdefault(question.id, []).append(value)
    n, correct, samples = len(items), sum(value == 1 for value in values), max(map(len, items.values()))
    if samples == 1:
        mean = correct / n if metric.binary else math.fsum(values) / n
        low, high = interval(values, binary=metric.binary)
    else:
        means = [math.fsum(found) / len(found) for found in items.values()]
        mean = math.fsum(means) / n
        low, high = interval(means, binary=metric.binary, samples=samples)
    return Score(
        benchmark, language, metric.scorer, metric.name, n, correct, mean, low, high, metric.floor, metric.ceiling,
        no_answer, metric.binary, metric.constant_floor, samples,
    )  # fmt: skip


def interval(values: Sequence[float], *, binary: bool, samples: int = 1) -> tuple[float, float]:
    """Compute the 95 % interval of the mean: Wilson's for binary values, else a percentile bootstrap.

    Args:
        values: the value of each item; of several samples their mean.
        binary: whether each response has the value 0 or 1.
        samples: number of responses to each item.

    Raises:
        ValueError: there are no values, or one is not from 0 to 1, or not 0 or 1 though binary.
    """
    if binary and samples > 1:
        return clustered_interval(values, samples)
    if wrong := [value for value in values if not (value in (0, 1) if binary else 0 <= value <= 1)]:
        raise ValueError(f"item value {wrong[0]} is not {'0 or 1' if binary else 'from 0 to 1'}")
    if binary:
        return wilson(sum(value == 1 for value in values), len(values))
    return bootstrap_mean(values, (0, 1))


def samples_of(questions: Sequence[Question]) -> int:
    """Return the number of responses to each question, which is repeated as often."""
    return len(questions) // len({question.id for question in questions})


def share(right: Sequence[bool]) -> float:
    """Return the share of right items among at least one item."""
    return sum(right) / len(right)


RESAMPLES, BOOTSTRAP_SEED = 10_000, 0


def bootstrap_sum(values: Sequence[float], confidence: float = 0.95) -> tuple[int, int]:
    """Compute the percentile bootstrap interval (Efron 1979) of a sum of integers, such as points; deterministic.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to draw from")
    draws = np.random.default_rng(BOOTSTRAP_SEED).integers(0, len(values), (RESAMPLES, len(values)))
    sums = np.asarray(values)[draws].sum(axis=1)
    tail = 100 * (1 - confidence) / 2
    return int(np.percentile(sums, tail)), int(np.percentile(sums, 100 - tail))


BLOCK = 1 << 20
"""Number of values drawn at once; an unchunked bootstrap of 20,000 items would take 1.6 GB."""


def bootstrap_mean(
    values: Sequence[float], bounds: tuple[float, float], confidence: float = 0.95
) -> tuple[float, float]:
    """Compute the percentile bootstrap interval (Efron 1979) of a mean; deterministic.

    If all values are equal, the interval would have no width, however few they are. Then one value at each bound is
    added, as Bonett and Price (2012) add one to both kinds of disagreement.

    Args:
        values: the values.
        bounds: lowest and highest value that an item can have.
        confidence: of the interval.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to draw from")
    known = np.asarray(values if len(set(values)) > 1 else [*values, *bounds], dtype=float)
    random, n = np.random.default_rng(BOOTSTRAP_SEED), len(known)
    means: list[float] = []
    while len(means) < RESAMPLES:
        rows = min(RESAMPLES - len(means), max(1, BLOCK // n))
        means += known[random.integers(0, n, (rows, n))].mean(axis=1).tolist()
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap_statistic(
    rows: NDArray[Any],
    statistic: Callable[[NDArray[Any]], NDArray[np.float64]],
    confidence: float = 0.95,
    *,
    samples: int = 1,
    extremes: NDArray[Any] | None = None,
) -> tuple[float, float, float]:
    """Compute a statistic that is not a mean, and its percentile bootstrap interval; deterministic.

    If all draws are equal, the interval would have no width. Then it is that with the items `extremes`, as in
    `bootstrap_mean`.

    Args:
        rows: (items × samples, columns) values of each response, those of an item one after another.
        statistic: computes the statistic of (..., items, columns) values along the items.
        confidence: of the interval.
        samples: number of responses to each item; items are drawn with all of theirs.
        extremes: (2, columns) values of the best and the worst response to an item.
    """
    value = float(statistic(rows))
    low, high = _bootstrap_bounds(rows, statistic, confidence, samples)
    if low == high and extremes is not None:
        known = np.concatenate([rows, np.repeat(extremes, samples, axis=0)])
        low, high = _bootstrap_bounds(known, statistic, confidence, samples)
    return value, min(low, value), max(high, value)


def _bootstrap_bounds(
    rows: NDArray[Any], statistic: Callable[[NDArray[Any]], NDArray[np.float64]], confidence: float, samples: int
) -> tuple[float, float]:
    random, n = np.random.default_rng(BOOTSTRAP_SEED), len(rows) // samples
    items = rows.reshape(n, samples, -1)
    values: list[float] = []
    while len(values) < RESAMPLES:
        drawn = min(RESAMPLES - len(values), max(1, BLOCK // rows.size))
        resampled = items[random.integers(0, n, (drawn, n))].reshape(drawn, *rows.shape)
        values += np.atleast_1d(statistic(resampled)).tolist()
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def sign_flip_probability(differences: Sequence[float]) -> float:
    """Compute the two-sided p-value of a paired permutation test (Fisher 1935) of the mean difference; deterministic.

    The sign of each difference is drawn at random `RESAMPLES` times. The observed signs count as one more draw
    (Phipson and Smyth 2010), so the probability is never 0.
    """
    known, random = np.asarray(differences, dtype=float), np.random.default_rng(BOOTSTRAP_SEED)
    known = known[known != 0]
    if not len(known):
        return 1.0
    observed, extreme, drawn = abs(known.sum()), 0, 0
    while drawn < RESAMPLES:
        rows = min(RESAMPLES - drawn, max(1, BLOCK // len(known)))
        signs = random.integers(0, 2, (rows, len(known))) * 2 - 1
        # Rounding may separate sums that are equal.
        extreme += int((np.abs(signs @ known) >= observed * (1 - 1e-12)).sum())
        drawn += rows
    return (1 + extreme) / (1 + RESAMPLES)


@dataclass(frozen=True, slots=True)
class Paired:
    """Paired comparison of two models on the same items.

    Attributes:
        both: number of items that both got right; for graded scores, items with equal values.
        only_first: number of items that only the first got right; for graded scores, items on which it has more.
        only_second: the same for the second.
        first: mean value of the first; for binary scores its share of right items.
        second: mean value of the second.
        difference: mean of the second minus mean of the first.
        low: lower end of the 95 % interval of the difference.
        high: upper end of the interval.
        p: two-sided p-value: exact McNemar test for binary scores, permutation test for graded ones.
        detectable: minimum detectable difference with 80 % power at the 5 % level, given the number of items and of
            disagreements.
        binary: whether each value is 0 or 1.
    """

    n: int
    both: int
    only_first: int
    only_second: int
    first: float
    second: float
    difference: float
    low: float
    high: float
    p: float
    detectable: float
    binary: bool = True


def compare_pairs(first: Sequence[float], second: Sequence[float], *, binary: bool) -> Paired:
    """Compare two models item by item.

    Args:
        first: value of each item, from 0 to 1.
        second: values of the same items.
        binary: whether each value is 0 or 1; as the scorer declares.

    Raises:
        ValueError: the two have different lengths, or are empty.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"{len(first)} and {len(second)} values cannot be paired")
    if binary:
        return _compare_binary([value == 1 for value in first], [value == 1 for value in second])
    return _compare_graded(first, second)


def _compare_graded(first: Sequence[float], second: Sequence[float]) -> Paired:
    """Use a percentile bootstrap for the interval and a sign-flip permutation test."""
    differences = [b - a for a, b in zip(first, second, strict=True)]
    n, normal = len(differences), NormalDist()
    deviation = float(np.std(differences, ddof=1)) if n > 1 else 1.0
    low, high = bootstrap_mean(differences, (-1, 1))
    return Paired(
        n=n,
        both=sum(difference == 0 for difference in differences),
        only_first=sum(difference < 0 for difference in differences),
        only_second=sum(difference > 0 for difference in differences),
        first=math.fsum(first) / n,
        second=math.fsum(second) / n,
        difference=math.fsum(differences) / n,
        low=low,
        high=high,
        p=sign_flip_probability(differences),
        detectable=min(1.0, (normal.inv_cdf(0.975) + normal.inv_cdf(0.8)) * deviation / math.sqrt(n)),
        binary=False,
    )


def _compare_binary(first: Sequence[bool], second: Sequence[bool]) -> Paired:
    """Use the interval of Bonett and Price (2012), which adds one to both kinds of disagreement, and McNemar's exact
    test (1947)."""
    n = len(first)
    lost = sum(a and not b for a, b in zip(first, second, strict=True))
    won = sum(b and not a for a, b in zip(first, second, strict=True))
    normal = NormalDist()
    p_lost, p_won = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    error = math.sqrt((p_lost + p_won - (p_won - p_lost) ** 2) / (n + 2))
    margin = normal.inv_cdf(0.975) * error
    centre = p_won - p_lost
    # For a true difference d and a disagreement rate p the variance is (p - d^2) / n, where d^2 is small against p.
    detectable = (normal.inv_cdf(0.975) + normal.inv_cdf(0.8)) * math.sqrt((p_lost + p_won) / n)
    both = sum(a and b for a, b in zip(first, second, strict=True))
    return Paired(
        n,
        both,
        lost,
        won,
        (both + lost) / n,
        (both + won) / n,
        (won - lost) / n,
        max(-1.0, centre - margin),
        min(1.0, centre + margin),
        mcnemar(lost, won),
        min(1.0, detectable),
    )


def mcnemar(lost: int, won: int) -> float:
    """Compute the two-sided p-value of McNemar's exact test from the two kinds of disagreement."""
    n = lost + won
    tail = sum(math.comb(n, k) for k in range(min(lost, won) + 1))
    # Integers: 2 ** -n is 0 as a float beyond 1,074 disagreements.
    return min(1.0, float(Fraction(2 * tail, 2**n)))


def holm(probabilities: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple testing (Holm 1979), keeping their order."""
    adjusted = [0.0] * len(probabilities)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(probabilities)), key=lambda i: probabilities[i])):
        worst = max(worst, min(1.0, (len(probabilities) - rank) * probabilities[index]))
        adjusted[index] = worst
    return adjusted
