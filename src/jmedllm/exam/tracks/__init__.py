"""Tracks: one module each; from what a model gave, through verdicts, to scores with floor and ceiling."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from jmedllm.exam.question import Question
from jmedllm.exam.statistics import Score
from jmedllm.exam.tracks import legacy, likelihood


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model gave for one item; `response` or `log_probs` is None where no track needed it.

    Attributes:
        response: the answer as `legacy.extract_response` cut it out of the text.
        log_probs: summed natural log-probability of each choice.
    """

    response: str | None = None
    log_probs: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Track:
    """One way of turning answers into scores.

    Attributes:
        needs: what the model must be asked for.
        applies: whether the track can judge a question.
        judge: an item's verdict, a frozen dataclass, from a question and its `Answer`.
        verdict: the class of that verdict.
        scores: scores over questions of one benchmark and language, and their verdicts.
    """

    needs: Literal["response", "log_probs"]
    applies: Callable[[Question], bool]
    judge: Callable[[Question, Answer], Any]
    verdict: type[Any]
    scores: Callable[[Sequence[Question], Sequence[Any]], list[Score]]


def _judge_legacy(question: Question, answer: Answer) -> legacy.LegacyVerdict:
    return legacy.judge(question, answer.response or "")


def _judge_likelihood(question: Question, answer: Answer) -> likelihood.LikelihoodVerdict:
    return likelihood.judge(question, answer.log_probs or ())


TRACKS: dict[str, Track] = {
    "legacy": Track("response", legacy.applies, _judge_legacy, legacy.LegacyVerdict, legacy.scores),
    "likelihood": Track(
        "log_probs", likelihood.applies, _judge_likelihood, likelihood.LikelihoodVerdict, likelihood.scores
    ),
}
