"""Scores of each year's licence exam, beside the day on which the model was released."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from jmedllm.errors import InputError
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers.base import ItemScore
from jmedllm.evaluation.scorers.official import exam_of, pass_marks_of
from jmedllm.evaluation.statistics import interval

RELEASED = "released"
"""Key of a result's `source`: the day on which the model, or the base of an adapted model, was released."""

FIRST_DAY = (2, 1)
"""Month and day of the earliest possible exam. All exams from 2018 to 2026 took place in February."""


@dataclass(frozen=True, slots=True)
class ExamYear:
    """The items of one year's exam by one scorer. Shares from 0 to 1.

    Attributes:
        exam: its number, such as "116".
        correct: items with the value 1.
        value: mean value of the item scores.
        low: lower end of the 95 % interval of `value`.
    """

    scorer: str
    exam: str
    year: int
    n: int
    correct: int
    value: float
    low: float
    high: float


def by_exam_year(
    scorer: str,
    questions: Sequence[Question],
    item_scores: Mapping[str, ItemScore],
    *,
    binary: bool = True,
    samples: int = 1,
) -> list[ExamYear]:
    """Group the scored items of licence exams by year; empty for other questions."""
    groups: dict[tuple[int, str], list[float]] = {}
    for question in questions:
        marks = pass_marks_of(question.benchmark).get(exam_of(question))
        if marks is not None and question.id in item_scores:
            groups.setdefault((marks.year, exam_of(question)), []).append(item_scores[question.id].value)
    return [
        ExamYear(
            scorer,
            exam,
            year,
            len(values),
            sum(value == 1 for value in values),
            sum(values) / len(values),
            *interval(values, binary=binary, samples=samples),
        )
        for (year, exam), values in sorted(groups.items())
    ]


def parse_day(text: str, place: str = "") -> date:
    """Return the day that `text` names in the form YYYY-MM-DD.

    Args:
        place: beginning of the message, such as "--released: ".

    Raises:
        InputError: the text has another form.
    """
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"{place}{text!r} is not a day; write it as YYYY-MM-DD, such as 2025-04-28") from None


def beside_release(year: int, released: str | None) -> str:
    """Say whether the exam of a year took place before or after the release of the model.

    In the month of the exam, the exam counts as before.
    """
    if released is None:
        return "release unknown"
    return f"{'after' if date(year, *FIRST_DAY) > date.fromisoformat(released) else 'before'} {released}"
