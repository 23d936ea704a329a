"""Exam questions in a text: so far only stems that stand in it word for word."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jmedllm.exam.question import Question

_HEAD = 30
"""Characters by which a stem is looked up; shorter stems are too common to be evidence."""

_SHORTEST = 50
"""Characters of a piece that is worth keeping."""

Leaks = dict[str, list[tuple[str, str, str]]]
"""Stem, benchmark and id of the questions that begin with the same characters."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A question's text in a document, from `start` to before `end`."""

    start: int
    end: int
    benchmark: str
    question: str


def index(questions: Iterable[Question]) -> Leaks:
    """Make questions ready to be looked for."""
    leaks: Leaks = {}
    for question in questions:
        if len(question.stem) >= _HEAD:
            leaks.setdefault(question.stem[:_HEAD], []).append((question.stem, question.benchmark, question.id))
    return leaks


def find(leaks: Leaks, text: str, language: str) -> list[Hit]:
    """The questions that stand in a text, in its order."""
    return [
        Hit(start, start + len(stem), benchmark, question)
        for start in range(len(text) - _HEAD + 1)
        for stem, benchmark, question in leaks.get(text[start : start + _HEAD], ())
        if text.startswith(stem, start)
    ]


def cut(text: str, hits: Sequence[Hit]) -> list[str]:
    """The pieces of a text between the hits that are long enough to be of use."""
    pieces, end = [], 0
    for hit in sorted(hits, key=lambda hit: hit.start):
        pieces.append(text[end : hit.start])
        end = max(end, hit.end)
    pieces.append(text[end:])
    return [piece.strip() for piece in pieces if len(piece.strip()) >= _SHORTEST]
