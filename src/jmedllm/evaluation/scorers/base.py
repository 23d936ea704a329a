"""What a scorer is: its input, its result for one item, and its hooks. It imports none of the scorers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.statistics import Score
from jmedllm.models.backends.base import Completion, Failure
from jmedllm.models.thoughts import Thought

Need = Literal["response", "log_probs"]
"""What a scorer asks of the model: a response, or log-probabilities of the choices."""


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What a model gave for one item; None where no scorer asked for it.

    Attributes:
        presented: the question with its choices in the order shown.
        text: the response, with the borders of thoughts and channels.
        plain: the response without special tokens, if that is different.
        decoded: prompt and response decoded together, for published prompts, whose protocol reads both.
        truncated: whether the response was cut off.
        log_probs: natural log-probability of each printed choice.
        answer_as: what the prompt asked for; with "letter" the log-probabilities are those of the labels.
        thought_open: whether the prompt had opened a thought; None where unknown.
        thoughts: thought markers that only the model's chat template has.
        failure: why there is no response at all.
        numbered: whether the prompt numbered the choices; None where unknown.
        judge_reply: what the judge model replied to the scorer's `judge_prompt`.
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


class ItemScore(Protocol):
    """What a scorer returns for one item: a frozen dataclass of plain values, or one with these properties."""

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
        """How the answer was read, or why there is none; empty where nothing is read from text."""
        ...


@dataclass(frozen=True, slots=True)
class GradedItemScore:
    """An item score for scorers that give partial credit.

    Attributes:
        value: credit from 0 to 1.
        how: how it was found, in a few words that repeat between items; reports count them.
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
        prohibited: number of items in which a prohibited choice was picked.
        prohibited_items: their ids.
        passed: None if items of the exam are missing.
        correct: right answers of `n` items, including those excluded from grading.
        image_correct: right answers among the `image_n` items that show a picture we do not have.
    """

    exam: str
    year: int
    points: int
    points_low: int
    points_high: int
    max_points: int
    required: int
    required_max: int
    required_mark: int
    general: int
    general_max: int
    general_mark: int
    prohibited: int
    prohibited_items: tuple[str, ...]
    passed: bool | None
    correct: int
    n: int
    image_correct: int
    image_n: int


@dataclass(frozen=True, slots=True)
class Scorer:
    """One way of turning model outputs into scores.

    Attributes:
        summary: what it measures, in a few words.
        needs: what the model must be asked for.
        applies: whether it can score a question.
        score_item: the item score of one model output.
        item_score: the class of item scores.
        aggregate: scores over questions of one benchmark and language and their item scores; None for the mean of
            the item scores' `value`, with floor 0 and ceiling 1.
        binary: whether each value is 0 or 1. Binary scores have Wilson intervals and McNemar tests, graded ones
            bootstrap intervals and permutation tests.
        is_final: whether a partial response is all that this scorer reads, so that generation may stop; None if it
            reads the whole response.
        exam_outcomes: pass or fail of whole exams, from questions and their item scores.
        judge_prompt: the prompt for a judge model about one output; the reply comes back as `judge_reply`.
        strict: the same scorer for responses that are bare letters, as published result files have them.
        same_answers_as: a scorer that reads the same answers; comparisons leave this one out where that one is there.
    """

    summary: str
    needs: Need
    applies: Callable[[Question], bool]
    score_item: Callable[[ModelOutput], ItemScore]
    item_score: type[Any] = GradedItemScore
    aggregate: Callable[[Sequence[Question], Sequence[Any]], list[Score]] | None = None
    binary: bool = True
    is_final: Callable[[Completion], bool] | None = None
    exam_outcomes: Callable[[Sequence[Question], Sequence[Any]], list[ExamOutcome]] | None = None
    judge_prompt: Callable[[ModelOutput], str] | None = None
    strict: "Scorer | None" = None
    same_answers_as: str | None = None
