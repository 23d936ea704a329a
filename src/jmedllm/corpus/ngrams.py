"""N-grams of characters or words as numbers, independent of spelling.

Letters are compared by their compatibility decomposition (NFKD), without case or accents: Ａ equals a, and ｶﾞ equals
ガ. Characters that are neither letters nor digits only separate words.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.uint64]
Places = NDArray[np.int64]

_GAP = ord(" ")
_AT_ONCE = 1 << 18
"""Characters; more need more memory and are no faster."""
_WITHOUT_SPACES = 0x2E80
"""First code point of kana, kanji and the other scripts that put no spaces between words."""

_MARKS = ("Mn", "Cf")
"""Categories of accents, voicing marks of kana, and invisible characters."""

_KNOWN = 0x40000
"""Code points from here on are in no medical text."""

_BASE = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio; odd, so that it has an inverse modulo 2^64."""


@dataclass(frozen=True, slots=True)
class Units:
    """The characters or the words of a text, in order.

    Attributes:
        numbers: a number for each; equal units have equal numbers.
        starts: offset of the first character of each.
        ends: offset after the last character of each.
    """

    numbers: Numbers
    starts: Places
    ends: Places


def characters(text: str) -> Units:
    """Return the letters and digits of a text, one by one."""
    letters, origins = _letters(text)
    kept = letters != _GAP
    return Units(mixed(letters[kept]), origins[kept], origins[kept] + 1)


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts in order, as many at a time as numpy works on efficiently."""
    some: list[str] = []
    size = 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size >= _AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some


def words(text: str) -> Units:
    """Return the words and numbers of a text. In scripts without spaces every letter is a word."""
    letters, origins = _letters(text)
    # Kinds of letters: 0 separates words, 1 is part of a word, 2 is a word.
    kinds = np.zeros(len(letters) + 2, np.int8)
    kinds[1:-1] = (letters != _GAP).astype(np.int8) + (letters >= _WITHOUT_SPACES)
    here, before, behind = kinds[1:-1], kinds[:-2], kinds[2:]
    starts = np.flatnonzero((here == 2) | ((here == 1) & (before != 1)))
    ends = np.flatnonzero((here == 2) | ((here == 1) & (behind != 1))) + 1
    return Units(hasher(mixed(letters))(starts, ends), origins[starts], origins[ends - 1] + 1)


def grams(numbers: Numbers, n: int) -> Numbers:
    """Return one number for each run of n consecutive numbers; none if there are fewer."""
    starts = np.arange(max(0, len(numbers) - n + 1))
    return hasher(numbers)(starts, starts + n)


def divides(character: str) -> bool:
    """Return whether a character separates words: it is a sign, or a word by itself."""
    spelt = _spelt(character)
    return spelt != "" and (spelt.isspace() or ord(spelt[0]) >= _WITHOUT_SPACES)


def hasher(numbers: Numbers) -> Callable[[Places, Places], Numbers]:
    """Return a function that hashes runs numbers[start:end], independent of their position.

    The hash of a run is a polynomial in a base b modulo 2^64, computed for all runs from one cumulative sum, divided
    by b^start (Karp and Rabin 1987).
    """
    sums = np.zeros(len(numbers) + 1, np.uint64)
    np.cumsum(numbers * _powers(_BASE, len(numbers)), out=sums[1:])
    inverse = _powers(pow(_BASE, -1, 1 << 64), len(numbers))
    return lambda starts, ends: mixed((sums[ends] - sums[starts]) * inverse[starts])


def _powers(base: int, count: int) -> Numbers:
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.cumprod(powers, out=powers)


def mixed(numbers: Numbers) -> Numbers:
    """Mix numbers over all 64 bits (the finalizer of splitmix64, Steele et al. 2014)."""
    mixed = numbers + np.uint64(_BASE)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _letters(text: str) -> tuple[Numbers, Places]:
    """Return the compared letters of a text, gaps included, and the offset that each comes from."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    codes = np.where(codes < _KNOWN, codes, _GAP)
    spelling, firsts, counts = _table()
    counted = counts[codes]
    origins = np.repeat(np.arange(len(codes)), counted)
    within = np.arange(len(origins)) - np.repeat(np.cumsum(counted) - counted, counted)
    return spelling[firsts[codes][origins] + within], origins


@cache
def _table() -> tuple[Numbers, Places, Places]:
    """Return the letters of all characters in a row, and for each character the position and number of its own."""
    spelt = [_spelt(chr(code)) for code in range(_KNOWN)]
    counts = np.array([len(letters) for letters in spelt])
    return (
        np.array([ord(letter) for letters in spelt for letter in letters], np.uint64),
        np.cumsum(counts) - counts,
        counts,
    )


def _spelt(character: str) -> str:
    """Return the letters and digits of a character, a gap for each sign, nothing for an accent."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(
        letter if letter.isalnum() else " " for letter in decomposed if unicodedata.category(letter) not in _MARKS
    )
