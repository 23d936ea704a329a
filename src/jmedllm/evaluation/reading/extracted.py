"""What a response was taken to mean."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from jmedllm.evaluation.question import Question

NO_ANSWER: Mapping[str, str] = {
    "empty": "nothing was written, or nothing outside the reasoning",
    "refused": "declined to answer and stated no choice",
    "truncated": "cut off, at the token limit or inside its thought, before an answer was stated",
    "no choice": "named no choice as the answer",
    "no number": "gave no number as the answer",
    "ambiguous": "named several and did not decide between them",
    "too many": "named more choices than the question asks for",
    "too few": "named fewer choices than the question asks for",
    "unknown marker": "marks its thought in a way that is not known, so thought and answer cannot be told apart",
    "too long": "not asked: the prompt does not fit the model's context",
    "rejected": "not asked: the server refuses this prompt",
}
"""Why a response is no answer: the word that records keep, and what it means, as terminal and page print it."""


@dataclass(frozen=True, slots=True)
class ExtractedAnswer:
    """What a response was taken to mean.

    Attributes:
        chosen: indices of choices; empty for no answer and for numeric items.
        number: canonical decimal, for numeric items.
        how: how it was read; for no answer a key of `NO_ANSWER`. "text" in it: choices were named by their texts.
    """

    chosen: frozenset[int]
    number: str | None
    how: str

    @property
    def answered(self) -> bool:
        """Whether there is an answer."""
        return bool(self.chosen) or self.number is not None


def no_answer(reason: str) -> ExtractedAnswer:
    """No answer, for one of the reasons in `NO_ANSWER`."""
    return ExtractedAnswer(frozenset(), None, reason)


def fits(question: Question, count: int) -> bool:
    """Whether a right answer to `question` may have so many choices; which ones they are plays no part."""
    if "every_answer_right" in question.flags:
        return count > 0
    return count > 0 and count in {question.select, *map(len, (question.gold, *question.also_right))}


def answer_of(question: Question, chosen: Collection[int], how: str) -> ExtractedAnswer:
    """The reading of these choices, or no answer if they are too many or too few."""
    if fits(question, len(chosen)):
        return ExtractedAnswer(frozenset(chosen), None, how)
    return no_answer("too many" if len(chosen) > question.select else "too few")
