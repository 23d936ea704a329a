"""Right answers, and what a model earns that always picks the same places."""

import pytest

from jmedllm.evaluation.gold import best_constant
from jmedllm.evaluation.question import Question


def asked(*gold: int, choices: int = 4, **more) -> Question:
    texts = tuple(f"text {index}" for index in range(choices))
    return Question("q", "own", "en", "Which?", texts, frozenset(gold), select=len(gold) or 1, **more)


FIRST, SECOND = asked(0), asked(1)
BOTH = asked(0, also_right=(frozenset({1}),))
EVERY = asked(flags=frozenset({"every_answer_right"}))
NUMBER = asked(choices=0, number="7.2")


@pytest.mark.parametrize(
    ("questions", "share"),
    [
        pytest.param([FIRST, FIRST, SECOND], 2 / 3, id="always the first choice"),
        pytest.param([FIRST, SECOND, SECOND, BOTH], 3 / 4, id="several right answers"),
        pytest.param([FIRST, SECOND, EVERY], 2 / 3, id="every answer right"),
        pytest.param([FIRST, FIRST, asked(1, 3), asked(1, 3), asked(0, 1)], 4 / 5, id="two choices are asked for"),
        pytest.param([FIRST, NUMBER], 1 / 2, id="a number has no place"),
        pytest.param([NUMBER], 0.0, id="only numbers"),
    ],
)
def test_best_constant(questions, share):
    assert best_constant(questions) == pytest.approx(share)
