"""Rules for right answers."""

import math
from collections.abc import Collection

from jmedllm.evaluation.question import Question


def has_answer(question: Question) -> bool:
    """Whether the question has a right answer."""
    return bool(question.gold) or question.number is not None or "every_answer_right" in question.flags


def picks(question: Question) -> int:
    """Return the number of choices in the right answer."""
    return len(question.gold) or question.select


def is_right(question: Question, chosen: Collection[int]) -> bool:
    """Whether the choices at these indices, at least one, are a right answer."""
    return bool(chosen) and (
        "every_answer_right" in question.flags or set(chosen) in (question.gold, *question.also_right)
    )


def chance(question: Question) -> float:
    """Return the probability that randomly picked choices are right: 1 / C(choices, picks) for one right answer, 0 for
    a number."""
    if not question.choices:
        return 0.0
    if "every_answer_right" in question.flags:
        return 1.0
    right = {answer for answer in (question.gold, *question.also_right) if len(answer) == picks(question)}
    return len(right) / math.comb(len(question.choices), picks(question))


def mean_chance(questions: Collection[Question]) -> float:
    """Return the mean chance over at least one question."""
    return math.fsum(map(chance, questions)) / len(questions)
