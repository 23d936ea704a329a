"""Documents that repeat earlier ones: the same but for spelling, or nearly.

How much two documents have in common is the Jaccard similarity of their sets of shingles: runs of eight letters
or digits, which need no spaces between words. One-permutation hashing (Li, Owen and Zhang 2012) estimates it from
one hash a shingle: hashes are dealt into 128 bins, and of each bin the least is kept. Documents are compared if
they agree in one of 16 bands of bins (locality-sensitive hashing, Indyk and Motwani 1998).
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmedllm.corpus.cleaning.characters import normalize
from jmedllm.corpus.ngrams import characters, grams, mixed

THRESHOLD = 0.8
"""Similarity from which a document repeats another; docs/decontamination.md has what was measured around it."""

SHORT = 200
"""Letters and digits below which only the same text counts: of a few lines the dose that differs is the fact."""

_SHINGLE = 8
_BINS = 128
_EMPTY = 0xFFFF
_EMPTY_HALF = 0xFFFF_FFFF_FFFF_FFFF
_NEVER_THE_SAME = (_BINS - 1) / _BINS
_WINDOW = 1 << 20
"""Characters looked at together, so that a document of any length needs little memory."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What is compared of a document: 272 bytes, the same in every process and on every machine.

    Attributes:
        exact: hash of the text without white space and case.
        least: the least hash in each of 128 bins, 16 bits of it, or 0xFFFF where the bin
            is empty; nothing of a short text.
    """

    exact: bytes
    least: bytes


@dataclass(frozen=True, slots=True)
class Duplicate:
    """What a document repeats.

    Attributes:
        name: the earlier document.
        similarity: 1.0 for the same text; otherwise the estimate, always below.
    """

    name: str
    similarity: float


def signature(text: str) -> Signature:
    """Sign a document: a pure function."""
    spelling = "".join(normalize(text).casefold().split())
    exact = hashlib.sha256(spelling.encode("utf-8", "surrogatepass")).digest()[:16]
    least, count = np.full(_BINS, 1 << 32, np.uint64), 0
    for start in range(0, len(text), _WINDOW):
        shingles = grams(characters(text[start : start + _WINDOW]).numbers, _SHINGLE)
        np.minimum.at(least, shingles % np.uint64(_BINS), shingles >> np.uint64(32))
        count += len(shingles)
    if count + _SHINGLE - 1 < SHORT:
        return Signature(exact, b"")
    bits = np.where(least < 1 << 32, least % np.uint64(_EMPTY), np.uint64(_EMPTY))
    return Signature(exact, bits.astype(np.uint16).tobytes())


class DuplicateIndex:
    """The documents that stay so far, in 2.3 KB of memory each; the first of equal ones stays."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._least: list[bytes] = []
        self._exact: dict[bytes, int] = {}
        self._bands: dict[int, int] = {}

    def add(self, name: str, signed: Signature) -> Duplicate | None:
        """Remember a document, or say which earlier one it repeats: the most similar of those that stay."""
        if signed.exact in self._exact:
            return Duplicate(self._names[self._exact[signed.exact]], 1.0)
        least, bands = np.frombuffer(signed.least, np.uint16), _bands(signed.least)
        candidates = sorted({self._bands[band] for band in bands if band in self._bands})
        similarities = [_similarity(least, np.frombuffer(self._least[each], np.uint16)) for each in candidates]
        highest = max(similarities, default=0.0)
        if highest >= THRESHOLD:
            return Duplicate(self._names[candidates[similarities.index(highest)]], min(highest, _NEVER_THE_SAME))
        number = len(self._names)
        self._names.append(name)
        self._least.append(signed.least)
        self._exact[signed.exact] = number
        for band in bands:
            self._bands.setdefault(band, number)
        return None


def _bands(least: bytes) -> list[int]:
    """A number for each band of bins that are not all empty."""
    halves = np.frombuffer(least, np.uint64).reshape(-1, 2)  # eight bins of 16 bits
    filled = (halves != _EMPTY_HALF).any(axis=1)
    places = np.arange(len(halves), dtype=np.uint64)
    bands = mixed(mixed(mixed(halves[:, 0]) ^ halves[:, 1]) + places)
    return [int(band) for band in bands[filled]]


def _similarity(one: NDArray[np.uint16], two: NDArray[np.uint16]) -> float:
    """Share of the bins that agree among those that are filled in either: an unbiased estimate."""
    filled = (one != _EMPTY) | (two != _EMPTY)
    return float(((one == two) & filled).sum() / filled.sum())
