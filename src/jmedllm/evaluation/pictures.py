"""Scores of items with pictures apart from those of other items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers.base import ItemScore
from jmedllm.evaluation.statistics import interval

Visibility = Literal["shown", "blind", "hidden", "missing", "none"]
"""What the model saw of an item's pictures: all of them; nothing, because it does not see; nothing, because the
evaluation hid them; nothing, because they are not in the data; or the item has none."""


@dataclass(frozen=True, slots=True)
class PictureGroup:
    """Items of which the model saw as much of their pictures, by one scorer. Shares from 0 to 1.

    Attributes:
        correct: items with the value 1.
        value: mean value of the item scores.
        low: lower end of the 95 % interval of `value`.
    """

    scorer: str
    pictures: Visibility
    n: int
    correct: int
    value: float
    low: float
    high: float


def by_pictures(
    scorer: str,
    questions: Sequence[Question],
    item_scores: Mapping[str, ItemScore],
    shown: Visibility,
    *,
    binary: bool = True,
    samples: int = 1,
) -> list[PictureGroup]:
    """Group the scored questions by their pictures; nothing if none has any.

    Args:
        shown: what the model saw of the pictures that are in the data.
        samples: number of responses to each question, whose mean is its item score.
    """
    groups: dict[Visibility, list[float]] = {}
    for question in questions:
        if question.id in item_scores:
            groups.setdefault(_seen(question, shown), []).append(item_scores[question.id].value)
    if not groups.keys() - {"none"}:
        return []
    found = []
    for pictures, values in sorted(groups.items(), key=lambda group: group[0] == "none"):
        correct, n = sum(value == 1 for value in values), len(values)
        mean = sum(values) / n
        found.append(
            PictureGroup(scorer, pictures, n, correct, mean, *interval(values, binary=binary, samples=samples))
        )
    return found


def _seen(question: Question, shown: Visibility) -> Visibility:
    if question.images:
        return shown
    return "missing" if "image" in question.flags else "none"
