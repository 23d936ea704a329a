"""Rules for right answers."""

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from jmedllm.evaluation.question import Question


@dataclass(frozen=True, slots=True)
class Floor:
    """Score without any skill on some questions.

    Attributes:
        value: the floor, from 0 to 1.
        best_constant: score of the best constant answer, such as always the first choice; None if there is none.
    """

    value: float
    best_constant: float | None = None


def has_answer(question: Question) -> bool:
    """Return whether the question has a right answer."""
    return bool(question.gold) or question.number is not None or "every_answer_right" in question.flags


def picks(question: Question) -> int:
    """Return the number of choices in the right answer."""
    return len(question.gold) or question.select


def is_right(question: Question, chosen: Collection[int]) -> bool:
    """Return whether the choices at these indices, at least one, are a right answer."""
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
    return len(_right_answers(question)) / math.comb(len(question.choices), picks(question))


def best_constant(questions: Collection[Question]) -> float:
    """Return the share of at least one question that the best constant answer gets right.

    A constant answer picks the same places in every question, such as the first choice; questions with another number
    of right choices have a constant answer of their own.
    """
    always = 0
    right: dict[int, Counter[frozenset[int]]] = {}
    for question in questions:
        if question.choices and "every_answer_right" in question.flags:
            always += 1
        elif question.choices:
            right.setdefault(picks(question), Counter()).update(_right_answers(question))
    return (always + sum(max(counts.values(), default=0) for counts in right.values())) / len(questions)


def _right_answers(question: Question) -> set[frozenset[int]]:
    """Return the right answers with as many choices as a candidate picks."""
    return {answer for answer in (question.gold, *question.also_right) if len(answer) == picks(question)}


def mean_chance(questions: Collection[Question]) -> float:
    """Return the mean chance over at least one question."""
    return math.fsum(map(chance, questions)) / len(questions)


def guessing(questions: Collection[Question]) -> Floor:
    """Return the floor of picking choices: mean chance and the best constant answer on at least one question."""
    return Floor(mean_chance(questions), best_constant(questions))


def zero(_: Collection[Question]) -> Floor:
    """Return the floor of scorers that give an empty answer 0, such as similarity to a reference."""
    return Floor(0.0)
