"""Cuts Japanese text into words with SudachiPy (extra `deid`)."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jmedllm.errors import not_installed

_LONGEST = 15_000
"""Characters given to Sudachi at once; it refuses 49,149 bytes."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word: characters `start` to `end` (exclusive), and its part of speech.

    Attributes:
        part: such as 名詞.
        kind: 姓 or 名 for personal names, 地名 for places, else the second part of speech.
        unknown: whether the dictionary lacks it.
    """

    start: int
    end: int
    text: str
    part: str
    kind: str
    unknown: bool


def tokenize(text: str) -> list[Token]:
    """Return the words of a text in order.

    Raises:
        InputError: SudachiPy or its dictionary is not installed.
    """
    found: list[Token] = []
    for start, piece in _pieces(text):
        for word in _tokenizer().tokenize(piece):
            part = word.part_of_speech()
            kind = {"人名": part[3], "地名": "地名"}.get(part[2], part[1]) if part[1] == "固有名詞" else part[1]
            found.append(Token(start + word.begin(), start + word.end(), word.surface(), part[0], kind, word.is_oov()))
    return found


def touching(tokens: Sequence[Token], start: int, end: int) -> Sequence[Token]:
    """Return the words that share a character, or an edge, with characters `start` to `end`; `tokens` is in order.

    They are found by bisection: a look at all words for each candidate would take quadratic time.
    """
    first = bisect_left(tokens, start, key=lambda each: each.end)
    return tokens[first : bisect_right(tokens, end, first, key=lambda each: each.start)]


def _pieces(text: str) -> list[tuple[int, str]]:
    """Cut a text at line ends, or anywhere if a line is too long."""
    pieces, start = [], 0
    while start < len(text):
        end = min(start + _LONGEST, len(text))
        line = text.rfind("\n", start, end) + 1
        end = line if end < len(text) and line > start else end
        pieces.append((start, text[start:end]))
        start = end
    return pieces


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    try:
        from sudachipy import Dictionary, SplitMode
    except ModuleNotFoundError:
        raise not_installed("de-identification", "sudachipy") from None
    return Dictionary(dict="core").tokenizer(mode=SplitMode.C)


@lru_cache(maxsize=4096)
def reading_of(given_name: str) -> str | None:
    """Return the reading of a given name in hiragana; None if the dictionary does not have it as one."""
    words = list(_tokenizer().tokenize(given_name))
    if len(words) != 1 or words[0].part_of_speech()[2:4] != ("人名", "名"):
        return None
    return "".join(chr(ord(char) - 0x60) if "ァ" <= char <= "ヶ" else char for char in words[0].reading_form())
