"""Tracks: one module each; from what a model gave, through verdicts, to scores with floor and ceiling."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol

from jmedllm.evaluation.order import Shown
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import answer, legacy, likelihood, official
from jmedllm.evaluation.statistics import Score
from jmedllm.models.backends.base import Failure
from jmedllm.models.thoughts import Thought


@dataclass(frozen=True, slots=True)
class Given:
    """What a model gave for one item; None where no track needed it.

    Attributes:
        shown: the question as it was asked.
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

    shown: Shown
    text: str | None = None
    line: str | None = None
    truncated: bool = False
    log_probs: tuple[float, ...] | None = None
    answer_as: AnswerForm = "text"
    thought_open: bool | None = False
    thoughts: tuple[Thought, ...] = ()
    failure: Failure | None = None
    numbered: bool | None = None


class Verdict(Protocol):
    """What every track's verdict has: a frozen dataclass of plain values."""

    @property
    def chosen(self) -> tuple[int, ...]:
        """Indices of the printed choices that were taken to be meant."""
        ...

    @property
    def correct(self) -> bool:
        """Whether the item counts as right in the track's main metric."""
        ...


ReadVerdict = answer.AnswerVerdict | legacy.LegacyVerdict
"""What tracks make of what a model wrote; it says `how` it was read."""


@dataclass(frozen=True, slots=True)
class Track:
    """One way of turning answers into scores.

    Attributes:
        needs: what the model must be asked for.
        applies: whether the track can judge a question.
        judge: an item's verdict.
        verdict: the class of that verdict.
        scores: scores over questions of one benchmark and language, and their verdicts.
    """

    needs: Literal["response", "log_probs"]
    applies: Callable[[Question], bool]
    judge: Callable[[Given], Verdict]
    verdict: type[Any]
    scores: Callable[[Sequence[Question], Sequence[Any]], list[Score]]


def _judge_answer(given: Given) -> answer.AnswerVerdict:
    if given.failure is not None:
        return answer.AnswerVerdict((), None, given.failure, False)
    return answer.judge(
        given.shown,
        given.text or "",
        given.answer_as,
        truncated=given.truncated,
        thought_open=given.thought_open,
        thoughts=given.thoughts,
        numbered=given.numbered,
    )


def _judge_official(given: Given) -> answer.AnswerVerdict:
    return official.award(given.shown.question, _judge_answer(given))


def _judge_legacy(given: Given) -> legacy.LegacyVerdict:
    return legacy.judge(given.shown, given.line or "")


def _judge_likelihood(given: Given) -> likelihood.LikelihoodVerdict:
    return likelihood.judge(given.shown.question, given.log_probs or (), by_label=given.answer_as == "letter")


TRACKS: Mapping[str, Track] = {
    "answer": Track("response", answer.applies, _judge_answer, answer.AnswerVerdict, answer.scores),
    "legacy": Track("response", legacy.applies, _judge_legacy, legacy.LegacyVerdict, legacy.scores),
    "likelihood": Track(
        "log_probs", likelihood.applies, _judge_likelihood, likelihood.LikelihoodVerdict, likelihood.scores
    ),
    "official": Track("response", official.applies, _judge_official, answer.AnswerVerdict, official.scores),
}


READ_FROM_TEXT = tuple(name for name, track in TRACKS.items() if track.needs == "response")
"""Tracks that read what a model wrote; their verdicts say `how`."""


def judge(tracks: Sequence[str], given: Given) -> dict[str, dict[str, Any]]:
    """Verdicts of the tracks that apply to an item, as plain values."""
    return {
        name: {field.name: getattr(verdict, field.name) for field in fields(TRACKS[name].verdict)}
        for name in tracks
        if TRACKS[name].applies(given.shown.question)
        for verdict in [TRACKS[name].judge(given)]
    }


def verdict_of(track: str, values: Mapping[str, Any]) -> Any:
    """A track's verdict from the plain values that a record keeps of it."""
    return TRACKS[track].verdict(**{n: tuple(v) if isinstance(v, list) else v for n, v in values.items()})
