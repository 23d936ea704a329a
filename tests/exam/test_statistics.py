"""Scores and their intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from jmedllm.exam.question import Question
from jmedllm.exam.statistics import score, share, wilson


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


def question(benchmark="igakuqa") -> Question:
    return Question("q", benchmark, "ja", "", ("a", "b"), frozenset({0}))


def test_score():
    made = score([question()] * 4, track="t", metric="m", right=[True, False, True, True], floor=0.2, ceiling=0.9)
    assert (made.benchmark, made.language, made.n, made.correct, made.value) == ("igakuqa", "ja", 4, 3, 0.75)
    assert (made.low, made.high) == wilson(3, 4)
    assert share([True, False]) == 0.5


@pytest.mark.parametrize(
    ("questions", "right"),
    [
        pytest.param([], [], id="none"),
        pytest.param([question(), question("medqa")], [True, True], id="two benchmarks"),
        pytest.param([question()], [True, True], id="more verdicts than questions"),
    ],
)
def test_score_refuses_what_is_not_one_set(questions, right):
    with pytest.raises(ValueError, match="verdicts on"):
        score(questions, track="t", metric="m", right=right, floor=0.0, ceiling=1.0)
