"""In which order the choices of a question are shown: as printed, shuffled by a seed, or rotated."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from jmedllm.evaluation.question import Question

TURN_MARK = "~"
"""Between a question's id and the turn of its choices; no id holds it."""


@dataclass(frozen=True, slots=True)
class PresentedQuestion:
    """A question as it is put to a model.

    Attributes:
        question: the question as printed, which verdicts speak of.
        order: index of the printed choice at each place.
        rotation: how many places the choices were turned; 0 for the first showing.
    """

    question: Question
    order: tuple[int, ...]
    rotation: int = 0

    @property
    def key(self) -> str:
        """Id of the question, with the rotation behind it where the choices were turned."""
        return self.question.id if not self.rotation else f"{self.question.id}{TURN_MARK}{self.rotation}"

    @property
    def permuted(self) -> Question:
        """The question with its choices in the order shown, and what is right of them."""
        question, place = self.question, {choice: index for index, choice in enumerate(self.order)}
        if self.order == tuple(range(len(self.order))):
            return question
        return replace(
            question,
            choices=tuple(question.choices[index] for index in self.order),
            gold=frozenset(place[index] for index in question.gold),
            also_right=tuple(frozenset(place[index] for index in answer) for answer in question.also_right),
        )

    def printed(self, chosen: Sequence[int]) -> tuple[int, ...]:
        """Indices of printed choices, ascending, for places in the order shown."""
        return tuple(sorted(self.order[place] for place in chosen))


def show(question: Question, shuffle: int | None = None, rotations: int = 1) -> list[PresentedQuestion]:
    """All showings of a question.

    Args:
        shuffle: seed of a random order; the same seed gives a question the same order in both languages.
        rotations: how many turns of the choices are shown; at most one for each choice.
    """
    order = list(range(len(question.choices)))
    if shuffle is not None:
        Random(f"{shuffle} {question.id}").shuffle(order)
    turns = range(max(1, min(rotations, len(order))))
    return [PresentedQuestion(question, tuple(order[turn:] + order[:turn]), turn) for turn in turns]
