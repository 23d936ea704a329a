"""Presentations of a question: its choices as printed, shuffled or rotated, and several samples of each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from jmedllm.evaluation.question import Question

ROTATION_MARK = "~"
"""Separates a question's id from the rotation of its choices; no id contains it."""

SAMPLE_MARK = "#"
"""Separates the id of a presentation from the number of the sample, from the second one on."""


@dataclass(frozen=True, slots=True)
class PresentedQuestion:
    """A question with its choices in the order of the prompt.

    Attributes:
        question: the question as printed; item scores refer to its choices.
        order: index of the printed choice at each position.
        rotation: number of positions by which the choices were rotated; 0 for the first presentation.
        sample_number: number of the sample of this presentation; 0 for the first.
    """

    question: Question
    order: tuple[int, ...]
    rotation: int = 0
    sample_number: int = 0

    @property
    def key(self) -> str:
        """Id of the question, with the rotation and the number of the sample where these are not 0."""
        rotation = f"{ROTATION_MARK}{self.rotation}" if self.rotation else ""
        return self.question.id + rotation + (f"{SAMPLE_MARK}{self.sample_number}" if self.sample_number else "")

    @property
    def permuted(self) -> Question:
        """Return the question with choices and gold in the order of the prompt."""
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
        """Convert positions in the prompt to ascending indices of printed choices."""
        return tuple(sorted(self.order[place] for place in chosen))


def present(
    question: Question, shuffle: int | None = None, rotations: int = 1, samples: int = 1
) -> list[PresentedQuestion]:
    """Return all presentations of a question.

    Args:
        shuffle: seed of a random order; the same seed gives a question the same order in both languages.
        rotations: number of rotations; at most one for each choice.
        samples: number of samples of each rotation.
    """
    order = list(range(len(question.choices)))
    if shuffle is not None:
        Random(f"{shuffle} {question.id}").shuffle(order)
    places = range(max(1, min(rotations, len(order))))
    return [
        PresentedQuestion(question, tuple(order[place:] + order[:place]), place, number)
        for place in places
        for number in range(samples)
    ]
