"""Finds documents that repeat an earlier one exactly, apart from spelling, or nearly.

The similarity of two documents is the Jaccard similarity of their sets of shingles, runs of eight letters or digits,
which need no spaces between words. One-permutation hashing (Li, Owen and Zhang 2012) estimates it from one hash per
shingle: hashes are distributed over 128 bins, and the minimum of each bin is kept. Documents are compared if they
agree in one of 16 bands of bins (locality-sensitive hashing, Indyk and Motwani 1998).
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jmedllm.corpus.cleaning.characters import normalize
from jmedllm.corpus.ngrams import characters, grams, mixed

THRESHOLD = 0.8
"""Minimum similarity of a near-duplicate. Measurements are in docs/decontamination.md."""

SHORT = 200
"""Below this number of letters and digits only equal texts are duplicates: a short text may differ in the dose."""

_SHINGLE = 8
_BINS = 128
_EMPTY = 0xFFFF
_EMPTY_HALF = 0xFFFF_FFFF_FFFF_FFFF
_NEVER_THE_SAME = (_BINS - 1) / _BINS
_WINDOW = 1 << 20
"""Characters processed at a time, so that a document of any length needs little memory."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The 272 bytes of a document that are compared. They do not depend on the process or the machine.

    Attributes:
        exact: hash of the text without white space and case.
        least: 16 bits of the minimum hash of each of 128 bins, 0xFFFF for an empty bin; empty for a short text.
    """

    exact: bytes
    least: bytes


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A match with an earlier document.

    Attributes:
        name: the earlier document.
        similarity: 1.0 for the same text; otherwise the estimate, which is always below 1.
    """

    name: str
    similarity: float


def signature(text: str) -> Signature:
    """Compute the signature of a document."""
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
    """The documents kept so far, 2.3 KB of memory each. The first of several equal documents is kept."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._least: list[bytes] = []
        self._exact: dict[bytes, int] = {}
        self._bands: dict[int, int] = {}

    def add(self, name: str, signed: Signature) -> Duplicate | None:
        """Add a document, or return the most similar earlier document if it repeats one."""
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
    """Return a hash of each band of bins that are not all empty."""
    halves = np.frombuffer(least, np.uint64).reshape(-1, 2)  # eight bins of 16 bits
    filled = (halves != _EMPTY_HALF).any(axis=1)
    places = np.arange(len(halves), dtype=np.uint64)
    bands = mixed(mixed(mixed(halves[:, 0]) ^ halves[:, 1]) + places)
    return [int(band) for band in bands[filled]]


def _similarity(one: NDArray[np.uint16], two: NDArray[np.uint16]) -> float:
    """Return the share of bins that agree among those that are filled in either document: an unbiased estimate."""
    filled = (one != _EMPTY) | (two != _EMPTY)
    return float(((one == two) & filled).sum() / filled.sum())
