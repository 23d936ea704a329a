"""Folds the widths of characters, one to one, so that offsets stay those of the text."""

import re

from jmedllm.corpus.deidentify.lexicon import VARIANTS

_WIDTHS = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {
    0x3000: " ",
    0xA0: " ",
    0x2007: " ",
    0x202F: " ",
    0x301C: "~",
    0x2032: "'",
    0x2019: "'",
    0x2018: "'",
    0x00B4: "'",
    0x2215: "/",
    0x2044: "/",
    0x30FB: "・",
    0xFF65: "・",
}
_HYPHEN = re.compile(r"(?<=[0-9A-Za-z)])[-ー‐‑‒–—―−─ｰ](?=[0-9(])")
"""Long-vowel signs and dashes between digits stand for hyphens. Japanese numbers of houses have の and ノ, too."""


def fold(text: str) -> str:
    """Return a text of the same length with ASCII letters, digits, hyphens and spaces in place of their full-width
    forms."""
    folded = _HYPHEN.sub("-", text.translate(_WIDTHS))
    assert len(folded) == len(text)
    return folded


def fold_names(text: str) -> str:
    """Return a text of the same length with folded widths and with new forms in place of old kanji in names."""
    return fold(text).translate(VARIANTS)
