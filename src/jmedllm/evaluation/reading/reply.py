"""A response about choices in the forms that its readings look at, each made once."""

from dataclasses import dataclass
from functools import cached_property

from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.reading.markers import with_one_marker
from jmedllm.evaluation.reading.mentions import MentionGroup, mention_groups
from jmedllm.evaluation.reading.stated import Stance, find_stances
from jmedllm.evaluation.reading.structured import as_markers
from jmedllm.evaluation.reading.texts import EDGE, PAIRS, normalise

AROUND = EDGE + "・•●○>-" + "".join(PAIRS) + "".join(PAIRS.values())
"""What may stand around an answer, brackets and bullets included."""


@dataclass(frozen=True)
class Reply:
    """What a model said about a question with choices.

    Attributes:
        text: what it said, without its reasoning and without what it repeats of the question.
        truncated: it was cut off at its token limit.
        answer_as: what the prompt asked for.
        numbered: whether the prompt numbered the choices; None where nobody knows.
    """

    question: Question
    text: str
    truncated: bool = False
    answer_as: AnswerForm = "text"
    numbered: bool | None = None

    @cached_property
    def said(self) -> str:
        """The text, normalised, with one mark in front of each answer that is named outright."""
        return with_one_marker(normalise(as_markers(self.text)))

    @cached_property
    def groups(self) -> list[MentionGroup]:
        """All mentions of choices in `said`."""
        return mention_groups(self.question, self.said, self.answer_as, self.numbered)

    @cached_property
    def stances(self) -> list[tuple[MentionGroup, Stance]]:
        """What `said` says about each of them."""
        return find_stances(self.question, self.said, self.groups)

    def part(self, text: str) -> "Reply":
        """A part of what it said, as a reply of its own."""
        return Reply(self.question, text, self.truncated, self.answer_as, self.numbered)
