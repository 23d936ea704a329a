"""Find benchmark questions in a text, and cut them out together with the text around them."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from jmedllm.corpus.contamination_index import ContaminationIndex, matches
from jmedllm.corpus.ngrams import batches, divides, words

MARGIN = 200
"""Characters removed before and after a hit: the rest of a paraphrased question, and its answer."""

SHORTEST = 200
"""Pieces of fewer characters are removed."""

_WINDOW = 1 << 20
"""Characters processed at a time, so that a document of any length needs little memory."""

_OVERLAP = 4000
"""Characters that two windows share: more than any n-gram has."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A question found in a text, from offset `start` up to `end`."""

    start: int
    end: int
    benchmark: str
    question: str


def find(index: ContaminationIndex, text: str) -> list[Hit]:
    """Find the questions in a text, in order. A paraphrased question may be found in several places."""
    spans: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for window in range(0, len(text), _WINDOW):
        begin, end = _outward(text, window, -1), _outward(text, window + _WINDOW + _OVERLAP, 1)
        units = words(text[begin:end])
        for length, starts, places in matches(index, units.numbers):
            found = zip(units.starts[starts] + begin, units.ends[starts + length - 1] + begin, strict=True)
            for owner, span in zip(index.owners[length][places].tolist(), found, strict=True):
                spans[owner].append((int(span[0]), int(span[1])))
    hits = [Hit(*span, *index.questions[owner]) for owner, those in spans.items() for span in _merged(those)]
    return sorted(hits, key=lambda hit: (hit.start, hit.end, hit.benchmark, hit.question))


def find_in_each(index: ContaminationIndex, texts: Iterable[str]) -> Iterator[list[Hit]]:
    """Yield the hits of `find` for each of many short texts, in less time than one by one."""
    for some in batches(texts):
        units = words("\n".join(some))
        ends = np.cumsum([len(text) + 1 for text in some])
        begun = [units.starts[starts] for _, starts, _ in matches(index, units.numbers)]
        # Also those where an n-gram begins that ends in the next text: `find` sees that it does not fit.
        likely = {int(place) for starts in begun for place in np.searchsorted(ends, starts, "right")}
        for place, text in enumerate(some):
            yield find(index, text) if place in likely else []


def cut(text: str, hits: Sequence[Hit]) -> list[str]:
    """Return the pieces of a text between the hits that are long enough to be useful. No question is found in them."""
    return [text[start:end] for start, end in _pieces(text, hits)]


def removed(text: str, hits: Sequence[Hit]) -> Iterator[tuple[str, list[Hit]]]:
    """Yield the stretches that `cut` removes, each with the hits in it."""
    pieces = _pieces(text, hits) if hits else [(0, len(text))]
    starts, ends = [0, *(end for _, end in pieces)], [*(start for start, _ in pieces), len(text)]
    for start, end in zip(starts, ends, strict=True):
        if inside := [hit for hit in hits if start <= hit.start < end]:
            yield text[start:end], inside


def _pieces(text: str, hits: Sequence[Hit]) -> list[tuple[int, int]]:
    around = _merged((_outward(text, hit.start - MARGIN, -1), _outward(text, hit.end + MARGIN, 1)) for hit in hits)
    starts, ends = [0, *(end for _, end in around)], [*(start for start, _ in around), len(text)]
    pieces = [_stripped(text, start, end) for start, end in zip(starts, ends, strict=True)]
    return [(start, end) for start, end in pieces if end - start >= SHORTEST]


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def _outward(text: str, place: int, step: int) -> int:
    """Return the next offset that is not inside a word, since part of a word might match a question."""
    while 0 < place < len(text) and not (divides(text[place - 1]) or divides(text[place])):
        place += step
    return max(0, min(place, len(text)))


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the spans in order, with those that touch or overlap merged."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
