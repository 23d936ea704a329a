"""Compare a model with the human examinees, by item difficulty and by subject."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers.base import ItemScore
from jmedllm.evaluation.statistics import interval

BANDS = (0, 20, 40, 60, 80, 100)
"""Bounds of the difficulty bands: percentage of the examinees who were right."""


@dataclass(frozen=True, slots=True)
class BaselineGroup:
    """Items of one difficulty or one subject, by one scorer. Shares from 0 to 1.

    Attributes:
        name: the band, such as "60-80 % right", or the subject.
        correct: items with the value 1.
        value: mean value of the item scores.
        low: lower end of the 95 % interval of `value`.
        examinees: mean share of examinees who were right on these items; None if it was not published.
    """

    scorer: str
    kind: Literal["difficulty", "subject"]
    name: str
    n: int
    correct: int
    value: float
    low: float
    high: float
    examinees: float | None


def compare_with_examinees(
    scorer: str,
    questions: Sequence[Question],
    item_scores: Mapping[str, ItemScore],
    *,
    binary: bool = True,
    samples: int = 1,
) -> list[BaselineGroup]:
    """Group the scored questions by difficulty, hardest first, and by subject, largest first."""
    scored = [question for question in questions if question.id in item_scores]
    bands: dict[str, list[Question]] = {}
    for low, high in pairwise(BANDS):
        bands[f"{low}-{high} % right"] = [
            question
            for question in scored
            if question.examinees_right is not None
            and low <= question.examinees_right < (high if high < BANDS[-1] else BANDS[-1] + 1)
        ]
    subjects: dict[str, list[Question]] = {}
    for question in scored:
        if question.subject is not None:
            subjects.setdefault(question.subject, []).append(question)
    by_size = sorted(subjects.items(), key=lambda item: -len(item[1]))
    grouped: list[tuple[Literal["difficulty", "subject"], str, Sequence[Question]]] = [
        *(("difficulty", name, members) for name, members in bands.items() if members),
        *(("subject", name, members) for name, members in by_size),
    ]
    found = []
    for kind, name, members in grouped:
        values = [item_scores[question.id].value for question in members]
        known = [question.examinees_right / 100 for question in members if question.examinees_right is not None]
        correct, n = sum(value == 1 for value in values), len(values)
        mean = sum(values) / n
        examinees = sum(known) / len(known) if known else None
        found.append(
            BaselineGroup(
                scorer, kind, name, n, correct, mean, *interval(values, binary=binary, samples=samples), examinees
            )
        )
    return found
