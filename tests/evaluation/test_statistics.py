"""Scores and their intervals."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from jmedllm.evaluation.proportions import wilson
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.statistics import (
    Metric,
    bootstrap_sum,
    compare_pairs,
    holm,
    interval,
    mcnemar,
    score,
    share,
    sign_flip_probability,
)


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (725, 1450, 0.4743, 0.5257),  # the ±2.6 points of papers.md
    ],
)
def test_wilson(correct, n, low, high):
    assert wilson(correct, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_scipy(pair):
    expected = binomtest(*pair).proportion_ci(0.95, method="wilson")
    assert wilson(*pair) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("correct", "n"), [(0, 0), (2, 1), (-1, 5)])
def test_wilson_refuses_what_is_no_proportion(correct, n):
    with pytest.raises(ValueError, match="not a proportion"):
        wilson(correct, n)


def question(benchmark="igakuqa", id="q") -> Question:
    return Question(id, benchmark, "ja", "", ("a", "b"), frozenset({0}))


def test_score():
    made = score(Metric("t", "m", 0.2, 0.9), [question(id=f"q{i}") for i in range(4)], [True, False, True, True])
    assert (made.benchmark, made.language, made.n, made.correct, made.value) == ("igakuqa", "ja", 4, 3, 0.75)
    assert (made.low, made.high) == wilson(3, 4)
    assert share([True, False]) == 0.5


@pytest.mark.parametrize(
    ("questions", "right"),
    [
        pytest.param([], [], id="none"),
        pytest.param([question(), question("medqa")], [True, True], id="two benchmarks"),
        pytest.param([question()], [True, True], id="more values than questions"),
    ],
)
def test_score_refuses_what_is_not_one_set(questions, right):
    with pytest.raises(ValueError, match="values for"):
        score(Metric("t", "m", 0.0, 1.0), questions, right)


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_binomial_test_of_scipy(lost, won):
    expected = binomtest(won, lost + won).pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_mcnemar_of_thousands_of_disagreements():
    assert mcnemar(3000, 3000) == 1.0
    assert 0 < mcnemar(2800, 3200) < 1e-6


@pytest.mark.parametrize(
    ("probabilities", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # statsmodels multipletests(method="holm")
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm(probabilities, adjusted):
    assert holm(probabilities) == pytest.approx(adjusted)


def test_pairs_of_binary_scores():
    first = [True] * 60 + [False] * 40
    second = [True] * 55 + [False] * 5 + [True] * 20 + [False] * 20
    pair = compare_pairs(first, second, binary=True)
    assert (pair.first, pair.second, pair.both) == (0.6, 0.75, 55)
    assert (pair.n, pair.only_first, pair.only_second, pair.difference) == (100, 5, 20, 0.15)
    # By hand: (21 - 6) / 102 -+ 1.96 * sqrt((27/102 - (15/102)^2) / 102)
    assert (pair.low, pair.high) == pytest.approx((0.0514, 0.2427), abs=5e-4)
    assert pair.p == pytest.approx(binomtest(20, 25).pvalue)
    assert pair.detectable == pytest.approx(2.8016 * (27 / 102 / 100) ** 0.5, abs=1e-4)
    with pytest.raises(ValueError, match="cannot be paired"):
        compare_pairs([True], [], binary=True)


def test_bootstrap_of_points_is_the_same_each_time_and_near_the_normal_one():
    values = [1, 0, 3, 1, 0] * 80
    low, high = bootstrap_sum(values)
    assert (low, high) == bootstrap_sum(values)
    mean, spread = sum(values), (400 * (11 / 5 - 1)) ** 0.5
    assert low == pytest.approx(mean - 1.96 * spread, abs=4)
    assert high == pytest.approx(mean + 1.96 * spread, abs=4)


def test_graded_scores_have_a_bootstrap_interval_of_their_mean():
    values = [0.0, 0.25, 0.5, 1.0] * 50
    made = score(Metric("t", "mean", 0.0, 1.0, binary=False), [question(id=f"q{i}") for i in range(200)], values)
    assert (made.value, made.correct, made.binary) == (0.4375, 50, False)
    error = 1.96 * (sum((v - 0.4375) ** 2 for v in values) / 200 / 200) ** 0.5
    assert (made.low, made.high) == pytest.approx((0.4375 - error, 0.4375 + error), abs=0.005)
    assert interval(values, binary=False) == (made.low, made.high)  # the same each time


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0.0] * 5, 0.0, 0.43), ([1.0] * 5, 0.57, 1.0), ([0.45], 0.0, 1.0), ([0.5] * 98, 0.48, 0.52)],
)
def test_equal_graded_scores_have_an_interval_with_a_width(values: list[float], low: float, high: float) -> None:
    assert interval(values, binary=False) == pytest.approx((low, high), abs=0.02)
    pair = compare_pairs([0.3] * 100, [0.3] * 100, binary=False)
    binary = compare_pairs([1] * 100, [1] * 100, binary=True)
    assert (pair.low, pair.high) == pytest.approx((binary.low, binary.high), abs=0.005)


@pytest.mark.parametrize(("values", "binary"), [([0.5], True), ([1.5], False), ([-0.1], False)])
def test_values_that_a_metric_does_not_allow_are_refused(values, binary):
    with pytest.raises(ValueError, match="item value"):
        interval(values, binary=binary)


def test_pairs_of_graded_scores():
    first, second = [0.2, 0.4, 0.6, 0.8] * 25, [0.4, 0.4, 0.9, 0.8] * 25
    pair = compare_pairs(first, second, binary=False)
    assert (pair.n, pair.both, pair.only_first, pair.only_second, pair.binary) == (100, 50, 0, 50, False)
    assert (pair.first, pair.second, pair.difference) == pytest.approx((0.5, 0.625, 0.125))
    assert pair.low < 0.125 < pair.high and pair.p == pytest.approx(1 / 10_001)
    same = compare_pairs(first, first, binary=False)
    assert (same.difference, same.p) == (0.0, 1.0)


def test_the_permutation_test_is_that_of_all_signs():
    differences = [0.1, 0.3, -0.2, 0.4, 0.05, -0.15]
    total = abs(sum(differences))
    every = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((1, -1), repeat=6)]
    exact = sum(each >= total - 1e-12 for each in every) / len(every)
    assert sign_flip_probability(differences) == pytest.approx(exact, abs=0.02)
