"""What counts as a right answer, whichever way it was given."""

import math
from collections.abc import Collection

from jmedllm.evaluation.question import Question


def has_answer(question: Question) -> bool:
    """Whether some answer is right."""
    return bool(question.gold) or question.number is not None or "every_answer_right" in question.flags


def picks(question: Question) -> int:
    """How many choices the right answer has."""
    return len(question.gold) or question.select


def is_right(question: Question, chosen: Collection[int]) -> bool:
    """Whether the choices at these indices, at least one, are a right answer."""
    return bool(chosen) and (
        "every_answer_right" in question.flags or set(chosen) in (question.gold, *question.also_right)
    )


def chance(question: Question) -> float:
    """Probability that choices picked at random are right: 1 / C(choices, picks) with one right answer; 0 for
    a number, which nobody guesses."""
    if not question.choices:
        return 0.0
    if "every_answer_right" in question.flags:
        return 1.0
    right = {answer for answer in (question.gold, *question.also_right) if len(answer) == picks(question)}
    return len(right) / math.comb(len(question.choices), picks(question))


def mean_chance(questions: Collection[Question]) -> float:
    """Share of at least one question that picking at random gets right."""
    return math.fsum(map(chance, questions)) / len(questions)
