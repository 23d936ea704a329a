"""A model beside the human examinees: by how hard they found an item, and by subject."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import ItemScore
from jmedllm.evaluation.statistics import wilson

BANDS = (0, 20, 40, 60, 80, 100)
"""Bounds of the difficulty bands: percentage of the examinees who were right."""


@dataclass(frozen=True, slots=True)
class Group:
    """Items of one difficulty or one subject, by one track. Shares from 0 to 1.

    Attributes:
        name: the band, such as "60-80 % right", or the subject.
        low: lower end of the 95 % interval of `value`.
        examinees: mean share of examinees who were right on these items; None where it was not published.
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


def beside_people(scorer: str, questions: Sequence[Question], item_scores: Mapping[str, ItemScore]) -> list[Group]:
    """Groups of the judged questions; difficulty hardest first, subjects largest first."""
    judged = [question for question in questions if question.id in item_scores]
    bands: dict[str, list[Question]] = {}
    for low, high in pairwise(BANDS):
        bands[f"{low}-{high} % right"] = [
            question
            for question in judged
            if question.examinees_right is not None
            and low <= question.examinees_right < (high if high < BANDS[-1] else BANDS[-1] + 1)
        ]
    subjects: dict[str, list[Question]] = {}
    for question in judged:
        if question.subject is not None:
            subjects.setdefault(question.subject, []).append(question)
    by_size = sorted(subjects.items(), key=lambda item: -len(item[1]))
    return [
        *(_group(scorer, "difficulty", name, members, item_scores) for name, members in bands.items() if members),
        *(_group(scorer, "subject", name, members, item_scores) for name, members in by_size),
    ]


def _group(
    scorer: str,
    kind: Literal["difficulty", "subject"],
    name: str,
    members: Sequence[Question],
    item_scores: Mapping[str, ItemScore],
) -> Group:
    correct = sum(item_scores[question.id].correct for question in members)
    known = [question.examinees_right / 100 for question in members if question.examinees_right is not None]
    low, high = wilson(correct, len(members))
    examinees = sum(known) / len(known) if known else None
    return Group(scorer, kind, name, len(members), correct, correct / len(members), low, high, examinees)
