"""Scorer `official`: the ministry's rule for the Japanese medical licence exam, with pass or fail for each year.

An answer is right if it is exactly the gold set. Each item has its points; items excluded from grading have 0. A
candidate passes with enough points in the required part (sections B and E) and in the general and clinical part,
and with prohibited choices in at most three items. Source of the pass marks: the ministry's notices, see `MARKS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from jmedllm.errors import InputError
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import answer
from jmedllm.evaluation.scorers.answer import AnswerItemScore
from jmedllm.evaluation.scorers.base import ExamOutcome, ModelOutput, Scorer
from jmedllm.evaluation.statistics import Score, bootstrap_sum

ITEMS = 400
"""Items of one year's exam."""

MOST_PROHIBITED = 3
"""Items in which a candidate may pick a prohibited choice (禁忌肢) and still pass."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Points that a candidate needs in each part of one year's exam."""

    year: int
    required: int
    general: int


MARKS: Mapping[str, Marks] = {
    "112": Marks(2018, 160, 208),
    "113": Marks(2019, 160, 209),
    "114": Marks(2020, 158, 217),
    "115": Marks(2021, 160, 209),
    "116": Marks(2022, 158, 214),
}
"""By exam. 114: the ministry's notice; 113 and 116: press reports of it; 112 and 115: its announcement as quoted
at savingdoctor.com/entry/2018/03/19/223235 and newtongym8.com (第115回医師国家試験-合格発表)."""


def applies(question: Question) -> bool:
    """Whether this scorer can score `question`: an item of the licence exam with an answer."""
    return question.benchmark == "igakuqa" and answer.applies(question)


def award(question: Question, item_score: AnswerItemScore) -> AnswerItemScore:
    """The item score by the ministry's rule: if every answer was accepted, even no answer earns the points."""
    return replace(item_score, correct=True) if "every_answer_right" in question.flags else item_score


def exam_of(question: Question) -> str:
    """Number of the exam that an item belongs to: "116" for 116A1."""
    return question.id[:3]


def exam_of_year(year: int) -> str:
    """Number of the exam of a year: "116" for 2022.

    Raises:
        InputError: there is none.
    """
    for exam, marks in MARKS.items():
        if marks.year == year:
            return exam
    years = sorted(marks.year for marks in MARKS.values())
    raise InputError(f"no exam of {year}; there are {years[0]} to {years[-1]}")


def aggregate(questions: Sequence[Question], item_scores: Sequence[AnswerItemScore]) -> list[Score]:
    """Share of right answers among the graded items, those with points."""
    graded = [i for i, question in enumerate(questions) if question.points]
    if not graded:
        return []
    return [answer.accuracy([questions[i] for i in graded], [item_scores[i] for i in graded], "official")]


def outcomes(
    questions: Sequence[Question], item_scores: Sequence[AnswerItemScore], *, plain_prohibited: bool = False
) -> list[ExamOutcome]:
    """The outcome of every year that `questions` have items of.

    Args:
        item_scores: in the order of `questions`.
        plain_prohibited: count only prohibited choices that the data give as one plain letter, as the
            published table of candidates does.
    """
    exams = sorted({exam_of(question) for question in questions})
    return [
        _outcome(
            exam,
            [(q, v) for q, v in zip(questions, item_scores, strict=True) if exam_of(q) == exam],
            plain_prohibited,
        )
        for exam in exams
    ]


def _outcome(exam: str, judged: Sequence[tuple[Question, AnswerItemScore]], plain_prohibited: bool) -> ExamOutcome:
    earned = [question.points * item_score.correct for question, item_score in judged]
    low, high = bootstrap_sum(earned)

    def part(points: Sequence[int], *, required: bool) -> int:
        return sum(p for p, (q, _) in zip(points, judged, strict=True) if ("required" in q.flags) == required)

    most = [question.points for question, _ in judged]
    prohibited = [
        question.id
        for question, item_score in judged
        if set(item_score.chosen) & (question.prohibited_plain if plain_prohibited else question.prohibited)
    ]
    marks = MARKS[exam]
    passed = (
        part(earned, required=True) >= marks.required
        and part(earned, required=False) >= marks.general
        and len(prohibited) <= MOST_PROHIBITED
    )
    images = [item_score.correct for question, item_score in judged if "image" in question.flags]
    return ExamOutcome(
        exam=exam,
        year=marks.year,
        points=sum(earned),
        points_low=low,
        points_high=min(high, sum(most)),
        max_points=sum(most),
        required=part(earned, required=True),
        required_max=part(most, required=True),
        required_mark=marks.required,
        general=part(earned, required=False),
        general_max=part(most, required=False),
        general_mark=marks.general,
        prohibited=len(prohibited),
        prohibited_items=tuple(prohibited),
        passed=passed if len(judged) == ITEMS else None,
        correct=sum(item_score.correct for _, item_score in judged),
        n=len(judged),
        image_correct=sum(images),
        image_n=len(images),
    )


def score_item(output: ModelOutput) -> AnswerItemScore:
    """The item score of one model output."""
    return award(output.presented.question, answer.score_item(output))


def score_item_strictly(output: ModelOutput) -> AnswerItemScore:
    """The item score of one output by the plain comma split."""
    return award(output.presented.question, answer.score_item_strictly(output))


SCORER = Scorer(
    summary="applies the ministry's rule",
    needs="response",
    applies=applies,
    score_item=score_item,
    item_score=AnswerItemScore,
    aggregate=aggregate,
    exam_outcomes=outcomes,
    strict=Scorer(
        summary="splits at commas",
        needs="response",
        applies=applies,
        score_item=score_item_strictly,
        item_score=AnswerItemScore,
        aggregate=aggregate,
        exam_outcomes=partial(outcomes, plain_prohibited=True),
    ),
    same_answers_as="answer",
)
