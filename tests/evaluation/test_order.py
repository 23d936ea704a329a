"""Orders of choices: the same for all, and nothing lost in them."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jmedllm.evaluation.order import present
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.rotations import compare_rotations
from jmedllm.evaluation.scorers.answer import AnswerItemScore, score_response

QUESTION = Question("q7", "own", "ja", "どれか。", ("胃", "肺", "肝", "腎", "膵"), frozenset({1, 4}), select=2)


def test_a_seed_gives_one_order_in_both_languages() -> None:
    orders = {present(replace(QUESTION, language=language), shuffle=3)[0].order for language in ("ja", "en")}
    assert orders == {(4, 1, 2, 0, 3)}
    assert present(QUESTION, shuffle=4)[0].order != present(QUESTION, shuffle=3)[0].order
    assert present(QUESTION)[0].order == (0, 1, 2, 3, 4)


def test_rotations_turn_the_order() -> None:
    orders = [presented.order for presented in present(QUESTION, rotations=3)]
    assert orders == [(0, 1, 2, 3, 4), (1, 2, 3, 4, 0), (2, 3, 4, 0, 1)]
    assert [presented.key for presented in present(QUESTION, rotations=3)] == ["q7", "q7~1", "q7~2"]
    assert len(present(QUESTION, rotations=99)) == 5
    assert len(present(replace(QUESTION, choices=(), gold=frozenset(), number="7"), rotations=3)) == 1


@given(st.integers(0, 99), st.sets(st.integers(0, 4), min_size=1, max_size=3), st.integers(0, 4))
def test_an_answer_means_the_same_in_any_order(seed: int, gold: set[int], turn: int) -> None:
    question = replace(QUESTION, gold=frozenset(gold), select=len(gold))
    presented = present(question, shuffle=seed, rotations=5)[turn]
    assert {presented.permuted.choices[place] for place in presented.permuted.gold} == set(question.gold_choices)
    letters = ",".join("abcde"[place] for place in sorted(presented.permuted.gold))
    item_score = score_response(presented, letters)
    assert item_score.correct and item_score.chosen == tuple(sorted(gold))


def test_a_model_that_always_says_a_is_found_out() -> None:
    question = replace(QUESTION, gold=frozenset({1}), select=1)
    presentations = present(question, rotations=5)
    item_scores = {presented.key: score_response(presented, "a") for presented in presentations}
    found = compare_rotations("answer", presentations, item_scores, {})
    assert found is not None
    assert (found.n, found.rotations, found.accuracy, found.consistency) == (1, 5, 0.2, 0.0)
    assert found.vote == 0.0  # all five choices have one vote, and the first is wrong
    assert [round(bias, 2) for bias in found.position_bias] == [0.8, -0.2, -0.2, -0.2, -0.2]
    steady = {presented.key: AnswerItemScore((1,), None, "label", True) for presented in presentations}
    found = compare_rotations("answer", presentations, steady, {})
    assert found is not None and (found.accuracy, found.consistency, found.vote) == (1.0, 1.0, 1.0)
    silent = {presented.key: AnswerItemScore((), None, "refused", False) for presented in presentations}
    found = compare_rotations("answer", presentations, silent, {})
    assert found is not None and found.consistency == 0.0 and max(found.position_bias) < 0
    assert compare_rotations("answer", present(question), {}, {}) is None
