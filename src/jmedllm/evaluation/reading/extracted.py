"""The answer that was extracted from a response."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from jmedllm.evaluation.question import Question

NO_ANSWER: Mapping[str, str] = {
    "empty": "nothing was written, or nothing outside the reasoning",
    "refused": "declined to answer and stated no choice",
    "truncated": "cut off, at the token limit or inside its thought, before an answer was stated",
    "no choice": "named no choice as the answer",
    "no number": "gave no number as the answer",
    "no decision": "did not say whether the text has an error",
    "no list": "listed no expressions",
    "ambiguous": "named several and did not decide between them",
    "too many": "named more choices than the question asks for",
    "too few": "named fewer choices than the question asks for",
    "unknown marker": "marks its thought in an unknown way, so thought and answer cannot be separated",
    "too long": "not asked: the prompt does not fit the model's context",
    "rejected": "not asked: the server refuses this prompt",
    "missing": "the recorded responses have none for this question",
}
"""Reasons for no answer: the word in records → its meaning, as terminal and page print it."""


@dataclass(frozen=True, slots=True)
class ExtractedAnswer:
    """The answer that was extracted from a response.

    Attributes:
        chosen: indices of choices; empty for no answer and for numeric items.
        number: canonical decimal, for numeric items.
        how: how it was extracted, with "text" in it if choices were named by their texts; for no answer a key of
            `NO_ANSWER`.
    """

    chosen: frozenset[int]
    number: str | None
    how: str

    @property
    def answered(self) -> bool:
        """Whether there is an answer."""
        return bool(self.chosen) or self.number is not None


def no_answer(reason: str) -> ExtractedAnswer:
    """Return no answer, for one of the reasons in `NO_ANSWER`."""
    return ExtractedAnswer(frozenset(), None, reason)


def fits(question: Question, count: int) -> bool:
    """Return whether a right answer to `question` may have `count` choices, whichever they are."""
    if "every_answer_right" in question.flags:
        return count > 0
    return count > 0 and count in {question.select, *map(len, (question.gold, *question.also_right))}


def answer_of(question: Question, chosen: Collection[int], how: str) -> ExtractedAnswer:
    """Return these choices as the answer, or no answer if they are too many or too few."""
    if fits(question, len(chosen)):
        return ExtractedAnswer(frozenset(chosen), None, how)
    return no_answer("too many" if len(chosen) > question.select else "too few")
