"""Tracks: one module each; from what a model gave, through verdicts, to scores with floor and ceiling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import answer, legacy, likelihood, official
from jmedllm.evaluation.statistics import Score
from jmedllm.models.backends.base import Failure
from jmedllm.models.thoughts import Thought


@dataclass(frozen=True, slots=True)
class ModelOutput:
    """What a model gave for one item; None where no track needed it.

    Attributes:
        presented: the question as it was asked.
        text: all that the model wrote.
        line: the part of it that the published protocol reads, see `legacy.extract_response`.
        truncated: whether the token limit ended the text.
        log_probs: natural log-probability of each printed choice.
        answer_as: what the prompt asked for; with "letter" the log-probabilities are of the labels.
        thought_open: whether the prompt had opened a thought; None where nobody knows.
        thoughts: markers of thoughts that only the model's template has.
        failure: why there is no response at all.
        numbered: whether the prompt numbered the choices; None where nobody knows.
    """

    presented: PresentedQuestion
    text: str | None = None
    line: str | None = None
    truncated: bool = False
    log_probs: tuple[float, ...] | None = None
    answer_as: AnswerForm = "text"
    thought_open: bool | None = False
    thoughts: tuple[Thought, ...] = ()
    failure: Failure | None = None
    numbered: bool | None = None


class ItemScore(Protocol):
    """What every track's verdict has: a frozen dataclass of plain values."""

    @property
    def chosen(self) -> tuple[int, ...]:
        """Indices of the printed choices that were taken to be meant."""
        ...

    @property
    def correct(self) -> bool:
        """Whether the item counts as right in the track's main metric."""
        ...


ReadItemScore = answer.AnswerItemScore | legacy.LegacyItemScore
"""What tracks make of what a model wrote; it says `how` it was read."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """One way of turning answers into scores.

    Attributes:
        needs: what the model must be asked for.
        applies: whether the track can judge a question.
        judge: an item's verdict.
        item_score: the class of that verdict.
        scores: scores over questions of one benchmark and language, and their verdicts.
    """

    needs: Literal["response", "log_probs"]
    applies: Callable[[Question], bool]
    judge: Callable[[ModelOutput], ItemScore]
    item_score: type[Any]
    scores: Callable[[Sequence[Question], Sequence[Any]], list[Score]]


def _judge_answer(given: ModelOutput) -> answer.AnswerItemScore:
    if given.failure is not None:
        return answer.AnswerItemScore((), None, given.failure, False)
    return answer.judge(
        given.presented,
        given.text or "",
        given.answer_as,
        truncated=given.truncated,
        thought_open=given.thought_open,
        thoughts=given.thoughts,
        numbered=given.numbered,
    )


def _judge_official(given: ModelOutput) -> answer.AnswerItemScore:
    return official.award(given.presented.question, _judge_answer(given))


def _judge_legacy(given: ModelOutput) -> legacy.LegacyItemScore:
    return legacy.judge(given.presented, given.line or "")


def _judge_likelihood(given: ModelOutput) -> likelihood.LikelihoodItemScore:
    return likelihood.judge(given.presented.question, given.log_probs or (), by_label=given.answer_as == "letter")


SCORERS: Mapping[str, Scorer] = {
    "answer": Scorer("response", answer.applies, _judge_answer, answer.AnswerItemScore, answer.scores),
    "legacy": Scorer("response", legacy.applies, _judge_legacy, legacy.LegacyItemScore, legacy.scores),
    "likelihood": Scorer(
        "log_probs", likelihood.applies, _judge_likelihood, likelihood.LikelihoodItemScore, likelihood.scores
    ),
    "official": Scorer("response", official.applies, _judge_official, answer.AnswerItemScore, official.scores),
}


READ_FROM_TEXT = tuple(name for name, scorer in SCORERS.items() if scorer.needs == "response")
"""Tracks that read what a model wrote; their verdicts say `how`."""


def judge(scorers: Sequence[str], given: ModelOutput) -> dict[str, dict[str, Any]]:
    """Verdicts of the tracks that apply to an item, as plain values."""
    return {
        name: {field.name: getattr(item_score, field.name) for field in fields(SCORERS[name].item_score)}
        for name in scorers
        if SCORERS[name].applies(given.presented.question)
        for item_score in [SCORERS[name].judge(given)]
    }


def item_score_of(scorer: str, values: Mapping[str, Any]) -> Any:
    """A track's verdict from the plain values that a record keeps of it."""
    return SCORERS[scorer].item_score(**{n: tuple(v) if isinstance(v, list) else v for n, v in values.items()})
