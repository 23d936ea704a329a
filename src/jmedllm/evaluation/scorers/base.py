"""Types of scorers: input, item score and hooks. This module imports no scorer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from jmedllm.evaluation.gold import Floor
from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.reading.clean import clean
from jmedllm.evaluation.statistics import Score
from jmedllm.models.backends.base import Completion, Failure
from jmedllm.models.thoughts import Thought

Need = Literal["response", "log_probs"]
"""Output that a scorer needs from the model: a response, or log-probabilities of the choices."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """Outputs of a model for one item; None where no scorer asked for it.

    Attributes:
        presented: the question with its choices in the order of the prompt.
        text: the response without its thought.
        plain: the response without special tokens, if that is different.
        decoded: prompt and response decoded together, for published prompts, whose protocol reads both.
        truncated: whether the response was cut off, or ended inside its thought.
        log_probs: natural log-probability of each printed choice.
        answer_as: whether the prompt asked for text or letter; with "letter" log-probabilities are those of the
            labels.
        thought_open: None if it is unknown whether the whole text is a thought that the prompt had opened; else False.
        thoughts: thought markers that only the model's chat template has.
        failure: why there is no response.
        numbered: whether the prompt numbered the choices; None where unknown.
        judge_reply: reply of the judge model to the scorer's `judge_prompt`; None if it could not reply.
        judge_failure: why the judge model could not reply.
    """

    presented: PresentedQuestion
    text: str | None = None
    plain: str | None = None
    decoded: str | None = None
    truncated: bool = False
    log_probs: tuple[float, ...] | None = None
    answer_as: AnswerForm = "text"
    thought_open: bool | None = False
    thoughts: tuple[Thought, ...] = ()
    failure: Failure | None = None
    numbered: bool | None = None
    judge_reply: str | None = None
    judge_failure: Failure | None = None


def text_for_the_reader(output: ModelOutput) -> tuple[str, str]:
    """Return the part of a response that is addressed to the reader, and the reason if there is none."""
    if output.failure is not None:
        return "", output.failure
    cleaned = clean(
        output.text or "",
        truncated=output.truncated,
        thought_open=output.thought_open,
        thoughts=output.thoughts,
    )
    if cleaned.text.strip():
        return cleaned.text, ""
    return "", "truncated" if output.truncated else "empty"


class ItemScore(Protocol):
    """Result of a scorer for one item: a frozen dataclass of plain values with these fields or properties."""

    @property
    def value(self) -> float:
        """Credit from 0 to 1 in the scorer's main metric; exactly 0 or 1 if the scorer is binary."""
        ...

    @property
    def chosen(self) -> tuple[int, ...]:
        """Indices of the printed choices that were taken as the answer; empty without choices."""
        ...

    @property
    def how(self) -> str:
        """How the answer was read, or why there is none; empty if nothing is read from text."""
        ...


@dataclass(frozen=True, slots=True)
class GradedItemScore:
    """An item score for scorers that give partial credit.

    Attributes:
        value: credit from 0 to 1.
        how: how the value was found, in a few words that repeat between items, because reports count them.
        chosen: indices of printed choices, if the scorer reads any.
    """

    value: float
    how: str = ""
    chosen: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ExamOutcome:
    """The outcome of one year's exam.

    Attributes:
        exam: its number, such as "116".
        points: points earned.
        points_low: lower end of the 95 % bootstrap interval of the points.
        required_mark: points needed to pass; None if they are not known.
        general_mark: points needed to pass; None if they are not known.
        prohibited: number of items in which a prohibited choice was picked.
        prohibited_items: ids of these items.
        passed: None if items of the exam are missing, or the pass marks are not known.
        correct: right answers of `n` items, including those excluded from grading.
        image_correct: right answers among the `image_n` items that show a picture, which may be missing from the data.
        prohibited_known: whether the data list prohibited choices; otherwise `passed` is by points alone.
    """

    exam: str
    year: int
    points: int
    points_low: int
    points_high: int
    max_points: int
    required: int
    required_max: int
    required_mark: int | None
    general: int
    general_max: int
    general_mark: int | None
    prohibited: int
    prohibited_items: tuple[str, ...]
    passed: bool | None
    correct: int
    n: int
    image_correct: int
    image_n: int
    prohibited_known: bool = True

    @property
    def decision(self) -> str:
        """The outcome in words."""
        if self.passed is None:
            return "pass marks unknown" if self.required_mark is None else "items missing"
        if self.passed:
            return "pass" if self.prohibited_known else "passed, prohibited choices unknown"
        return "fail"


@dataclass(frozen=True, slots=True)
class Scorer:
    """Turns model outputs into scores.

    Attributes:
        summary: what the scorer measures, in a few words.
        needs: output that the model must produce.
        applies: returns whether the scorer can score a question.
        score_item: scores one model output.
        item_score: class of the item scores.
        counts: returns whether the scores include a question; None for all that the scorer applies to.
        aggregate: computes scores from the questions of one benchmark and language and their item scores; None for the
            mean of the item scores' `value`, with the floor of `floor` and ceiling 1. A question with several samples
            is repeated for each of them.
        floor: computes the score without any skill on these questions, such as `gold.guessing`; None if it is unknown.
            Not used by scorers with their own `aggregate`.
        binary: whether each value is 0 or 1. Binary scores have Wilson intervals and McNemar tests, graded ones
            bootstrap intervals and permutation tests.
        is_final: returns whether the scorer needs no more than a partial response, so that generation may stop; None
            if it reads the whole response.
        exam_outcomes: computes pass or fail of whole exams from questions and their item scores.
        judge_prompt: builds the prompt for a judge model about one output; the reply is in `judge_reply`.
        strict: variant of the scorer for responses that are bare letters, as in published result files.
        same_answers_as: scorer that reads the same answers; comparisons leave this scorer out if that one is present.
    """

    summary: str
    needs: Need
    applies: Callable[[Question], bool]
    score_item: Callable[[ModelOutput], ItemScore]
    item_score: type[Any] = GradedItemScore
    counts: Callable[[Question], bool] | None = None
    aggregate: Callable[[Sequence[Question], Sequence[Any]], list[Score]] | None = None
    floor: Callable[[Sequence[Question]], Floor] | None = None
    binary: bool = True
    is_final: Callable[[Completion], bool] | None = None
    exam_outcomes: Callable[[Sequence[Question], Sequence[Any]], list[ExamOutcome]] | None = None
    judge_prompt: Callable[[ModelOutput], str] | None = None
    strict: "Scorer | None" = None
    same_answers_as: str | None = None
