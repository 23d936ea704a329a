"""Scorer `official`: the ministry's rule for the Japanese medical licence exam, with pass or fail for each year.

An answer is right if it is exactly the gold set. Each item has its points; items excluded from grading have 0. A
candidate passes with enough points in the required part (sections B and E) and in the general and clinical part,
and with prohibited choices in at most three items. The pass marks are in
`Benchmark.pass_marks`. Where the data do not list prohibited choices, or the marks are not known, the outcome says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS
from jmedllm.evaluation.benchmarks.benchmark import PassMarks
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import answer
from jmedllm.evaluation.scorers.answer import AnswerItemScore
from jmedllm.evaluation.scorers.base import ExamOutcome, ModelOutput, Scorer
from jmedllm.evaluation.statistics import Score, bootstrap_sum

ITEMS = 400
"""Items of one year's exam."""

MOST_PROHIBITED = 3
"""Items in which a candidate may pick a prohibited choice (禁忌肢) and still pass."""


def applies(question: Question) -> bool:
    """Return whether this scorer can score `question`, which must be an item of the licence exam with an answer."""
    return exam_of(question) in pass_marks_of(question.benchmark) and answer.applies(question)


def award(question: Question, item_score: AnswerItemScore) -> AnswerItemScore:
    """Apply the ministry's rule to an item score: if every answer was accepted, even no answer earns the points."""
    return replace(item_score, correct=True) if "every_answer_right" in question.flags else item_score


def exam_of(question: Question) -> str:
    """Return the number of the exam of an item: "116" for 116A1."""
    return question.id[:3]


def pass_marks_of(benchmark: str) -> Mapping[str, PassMarks]:
    """Return the pass marks of a benchmark's exams; empty for custom questions and benchmarks without pass marks."""
    return BENCHMARKS[benchmark].pass_marks if benchmark in BENCHMARKS else {}


def exam_of_year(benchmark: str, year: int) -> str:
    """Return the number of the exam of a year: "116" for 2022.

    Raises:
        InputError: the benchmark has no exam of that year.
    """
    exams = {marks.year: exam for exam, marks in pass_marks_of(benchmark).items()}
    if not exams:
        yearly = " or ".join(name for name in BENCHMARKS if pass_marks_of(name))
        raise InputError(f"--year needs a benchmark of yearly exams ({yearly}), not {benchmark}; leave it out")
    if year not in exams:
        raise InputError(f"no exam of {year}; there are {min(exams)} to {max(exams)}")
    return exams[year]


def counts(question: Question) -> bool:
    """Return whether a question is graded; those with 0 points only belong to the exam."""
    return question.points > 0


def aggregate(questions: Sequence[Question], item_scores: Sequence[AnswerItemScore]) -> list[Score]:
    """Compute accuracy on the graded items, which are those with points."""
    graded = [i for i, question in enumerate(questions) if counts(question)]
    if not graded:
        return []
    return [answer.accuracy([questions[i] for i in graded], [item_scores[i] for i in graded], "official")]


def outcomes(
    questions: Sequence[Question], item_scores: Sequence[AnswerItemScore], *, plain_prohibited: bool = False
) -> list[ExamOutcome]:
    """Compute the outcome of each year's exam in `questions`.

    Args:
        questions: questions of one or more exams.
        item_scores: item scores in the order of `questions`.
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
    marks = pass_marks_of(judged[0][0].benchmark)[exam]
    passed = (
        part(earned, required=True) >= marks.required
        and part(earned, required=False) >= marks.general
        and len(prohibited) <= MOST_PROHIBITED
        if marks.required is not None and marks.general is not None and len(judged) == ITEMS
        else None
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
        passed=passed,
        correct=sum(item_score.correct for _, item_score in judged),
        n=len(judged),
        image_correct=sum(images),
        image_n=len(images),
        prohibited_known=marks.prohibited_known,
    )


def score_item(output: ModelOutput) -> AnswerItemScore:
    """Score one model output."""
    return award(output.presented.question, answer.score_item(output))


def score_item_strictly(output: ModelOutput) -> AnswerItemScore:
    """Score one model output by the plain comma split."""
    return award(output.presented.question, answer.score_item_strictly(output))


_STRICT = Scorer(
    summary="splits at commas",
    needs="response",
    applies=applies,
    score_item=score_item_strictly,
    item_score=AnswerItemScore,
    counts=counts,
    aggregate=aggregate,
    exam_outcomes=partial(outcomes, plain_prohibited=True),
)

SCORER = replace(
    _STRICT,
    summary="applies the ministry's rule",
    score_item=score_item,
    exam_outcomes=outcomes,
    strict=_STRICT,
    same_answers_as="answer",
)
