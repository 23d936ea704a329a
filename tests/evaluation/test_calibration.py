"""Calibration by hand."""

import math

import pytest

from jmedllm.evaluation.calibration import calibrate
from jmedllm.evaluation.question import Question
from jmedllm.models.backends.top_logprobs import UNLISTED


def item(gold: int) -> Question:
    return Question(str(gold), "own", "en", "?", ("a", "b"), frozenset({gold}))


@pytest.mark.parametrize(
    ("chances", "golds", "error", "brier"),
    [
        ([(0.75, 0.25)] * 4, [0, 0, 0, 1], 0.0, (3 * 2 * 0.0625 + 2 * 0.5625) / 4),  # says 75 %, is right in 75 %
        ([(0.95, 0.05)] * 2, [1, 1], 0.95, 2 * 0.9025),  # sure and wrong
        ([(1.0, 1e-300)], [0], 0.0, 0.0),
    ],
)
def test_calibration(chances, golds, error, brier):
    found = calibrate([item(gold) for gold in golds], [tuple(map(math.log, each)) for each in chances])
    assert (found.n, found.expected_calibration_error, found.brier) == pytest.approx((len(golds), error, brier))


def test_only_items_with_one_right_choice_count():
    several = Question("q", "own", "en", "?", ("a", "b", "c"), frozenset({0, 1}), select=2)
    assert calibrate([several, item(0)], [(-1.0, -2.0, -3.0), None]) is None


def test_a_label_that_a_server_does_not_list_has_no_probability():
    found = calibrate([item(0), item(1)], [(-1.0, UNLISTED), (math.log(0.5), math.log(0.5))])
    assert found is not None and found.n == 1
