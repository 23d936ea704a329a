"""Which choices log-probabilities pick, and what that is worth."""

import math
from dataclasses import replace

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.gold import chance
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import likelihood
from jmedllm.models.backends.top_logprobs import UNLISTED


def question(gold=(1,), choices=("胃", "肝臓", "腎", "脾臓", "膵"), **fields) -> Question:
    return Question("q1", "igakuqa", "ja", "どれか。", tuple(choices), frozenset(gold), **fields)


@pytest.mark.parametrize(
    ("values", "n", "chosen"),
    [
        ([-3.0, -1.0, -2.0], 1, (1,)),
        ([-3.0, -1.0, -2.0], 2, (1, 2)),
        ([-1.0, -1.0, -1.0], 2, (0, 1)),  # the first of equal ones wins
        ([-math.inf, -5.0, -math.inf], 1, (1,)),
    ],
)
def test_choose(values, n, chosen):
    assert likelihood.choose(values, n) == chosen


def test_a_long_choice_wins_per_byte_only():
    # 胃 has 3 bytes of UTF-8, 肝臓 has 6: -6 / 3 = -2 against -9 / 6 = -1.5.
    item_score = likelihood.score_log_probs(question(), [-6.0, -9.0, -30.0, -60.0, -30.0])
    assert item_score == likelihood.LikelihoodItemScore((0,), (1,), False, True)


def test_a_byte_is_not_a_character():
    # 胃炎 has 6 bytes and 2 characters, ulcer 5 of both: -1 and -1.2 per byte, -3 and -1.2 per character.
    item_score = likelihood.score_log_probs(question((0,), ("胃炎", "ulcer")), [-6.0, -6.0])
    assert item_score.chosen_per_byte == (0,)
    item_score = likelihood.score_log_probs(question((0,), ("ulcer", "胃炎")), [-6.0, -6.0])
    assert item_score.chosen_per_byte == (1,)


@pytest.mark.parametrize(
    ("gold", "log_probs", "chosen"),
    [
        pytest.param((0,), (), (), id="nothing listed"),
        pytest.param((1,), (UNLISTED, -9.0, UNLISTED), (1,), id="the one listed"),
        pytest.param((0, 1), (UNLISTED, -9.0, UNLISTED), (), id="one of two listed"),
        pytest.param((0, 1), (-1.0, -9.0, UNLISTED), (0, 1), id="both of two listed"),
        pytest.param((0,), (-2.0, -2.0, UNLISTED), (0,), id="a tie of listed ones goes to the first"),
    ],
)
def test_a_label_that_is_not_listed_is_never_chosen(gold, log_probs, chosen):
    item_score = likelihood.score_log_probs(question(gold, ("x", "y", "z")), log_probs, by_label=True)
    assert item_score == likelihood.LikelihoodItemScore(chosen, None, chosen == gold, None)


def test_no_log_probabilities_are_no_answer_by_either_measure():
    assert likelihood.score_log_probs(question(), ()) == likelihood.LikelihoodItemScore((), (), False, False)
    every = question((), flags=frozenset({"every_answer_right"}))
    assert not likelihood.score_log_probs(every, (), by_label=True).correct


@pytest.mark.parametrize(
    ("asked", "log_probs", "correct"),
    [
        pytest.param(question((1, 3)), [-9, -1, -9, -2, -9], True, id="both of two"),
        pytest.param(question((1, 3)), [-9, -1, -2, -3, -9], False, id="one of two"),
        pytest.param(question((0,), also_right=(frozenset({3}),)), [-9, -9, -9, -1, -9], True, id="112B30: a or d"),
        pytest.param(question((0,), flags=frozenset({"every_answer_right"})), [-9, -1, -9, -9, -9], True, id="116A71"),
        pytest.param(question((), flags=frozenset({"every_answer_right"})), [-9, -1, -9, -9, -9], True, id="no gold"),
    ],
)
def test_item_scores(asked, log_probs, correct):
    assert likelihood.score_log_probs(asked, log_probs).correct is correct


def test_nan_is_no_answer():
    with pytest.raises(InputError, match="question 'q1': the model returns NaN"):
        likelihood.score_log_probs(question(), [-1.0, math.nan, -1.0, -1.0, -1.0])


def test_one_log_probability_for_each_choice():
    with pytest.raises(ValueError, match="zip"):
        likelihood.score_log_probs(question(), [-1.0])


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (question((1,)), 1 / 5),
        (question((1, 3)), 1 / 10),
        (question((0, 1, 2)), 1 / 10),
        (question((0,), also_right=(frozenset({3}),)), 2 / 5),
        (question((0,), flags=frozenset({"every_answer_right"})), 1.0),
        (question((0,), ("a", "b", "c", "d")), 1 / 4),
    ],
)
def test_chance(asked, expected):
    assert chance(asked) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("asked", "applies"),
    [
        (question(), True),
        (question((), (), number="7.2"), False),
        (question(()), False),
        (question((), flags=frozenset({"every_answer_right"})), True),
        (question((0,), ("胃", "")), False),
    ],
)
def test_applies(asked, applies):
    assert likelihood.applies(asked) is applies


def test_scores():
    asked = [question((1,)), replace(question((1, 3)), id="q2")]
    item_scores = [likelihood.score_log_probs(q, [-6, -9, -30, -60, -30]) for q in asked]
    total, per_byte = likelihood.aggregate(asked, item_scores)
    assert (total.metric, total.correct, total.n) == ("accuracy", 0, 2)
    assert (per_byte.metric, per_byte.correct, per_byte.n) == ("accuracy_per_byte", 1, 2)
    assert total.floor == pytest.approx((1 / 5 + 1 / 10) / 2)
    assert total.ceiling == 1.0
    assert (total.no_answer, per_byte.no_answer) == (0, 0)


def test_scores_count_no_answer():
    asked = [replace(question((1,)), id=f"q{i}") for i in range(3)]
    labels = [(-6.0, -1.0, -9.0, -9.0, -9.0), (), (-1.0, UNLISTED, UNLISTED, UNLISTED, UNLISTED)]
    item_scores = [
        likelihood.score_log_probs(q, values, by_label=True) for q, values in zip(asked, labels, strict=True)
    ]
    [score] = likelihood.aggregate(asked, item_scores)
    assert (score.correct, score.no_answer, score.n) == (1, 1, 3)
    texts = [likelihood.score_log_probs(q, values) for q, values in zip(asked[:2], labels[:2], strict=True)]
    assert [score.no_answer for score in likelihood.aggregate(asked[:2], texts)] == [1, 1]
