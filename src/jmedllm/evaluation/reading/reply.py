"""A response in the forms that the kinds of evidence use, each computed once."""

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
"""Characters that may be around an answer, including brackets and bullets."""


@dataclass(frozen=True)
class Reply:
    """The response of a model to a question with choices.

    Attributes:
        text: the response without its reasoning and without repetitions of the question.
        truncated: whether it was cut off at the token limit.
        answer_as: what the prompt asked for.
        numbered: whether the prompt numbered the choices; None if unknown.
    """

    question: Question
    text: str
    truncated: bool = False
    answer_as: AnswerForm = "text"
    numbered: bool | None = None

    @cached_property
    def said(self) -> str:
        """The normalised text, with one kind of marker in front of answers."""
        return with_one_marker(normalise(as_markers(self.text)))

    @cached_property
    def groups(self) -> list[MentionGroup]:
        """All mentions of choices in `said`."""
        return mention_groups(self.question, self.said, self.answer_as, self.numbered)

    @cached_property
    def stances(self) -> list[tuple[MentionGroup, Stance]]:
        """The stance of `said` on each group."""
        return find_stances(self.question, self.said, self.groups)

    def part(self, text: str) -> "Reply":
        """Return a part of the text as a reply."""
        return Reply(self.question, text, self.truncated, self.answer_as, self.numbered)
