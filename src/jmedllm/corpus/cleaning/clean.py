"""Cleans the text of a file for a model to read."""

import re
from dataclasses import dataclass

from jmedllm.corpus.cleaning.boilerplate import BOILERPLATE
from jmedllm.corpus.cleaning.characters import normalize
from jmedllm.corpus.cleaning.markup import MARKUP
from jmedllm.corpus.cleaning.pages import reflow
from jmedllm.corpus.cleaning.rules import Removed, apply

_SPACES = re.compile(r" +")
_AROUND_LINES = re.compile(r"(?<![ \t])[ \t]*\n[ \t]*")
_BLANK_LINES = re.compile(r"\n{3,}")
_MAX_DEPTH = 8
"""Maximum depth of markup within markup (&amp;lt;) that is removed; without a limit &amp;amp;... could take hours."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A clean text, and everything that was removed from it."""

    text: str
    removed: tuple[Removed, ...]


def clean(text: str) -> Cleaned:
    """Clean one document. Idempotent for text without page breaks or markup that is nine levels deep.

    In order: normalize characters, remove markup, join the pages of a text that "\\f" divides into pages, remove
    boilerplate, and leave at most one space and one blank line in a row.
    """
    removed: list[Removed] = []
    text = _without_markup(normalize(text), removed)
    if "\f" in text:
        text = reflow(text, removed)
    text = _AROUND_LINES.sub("\n", _SPACES.sub(" ", text)).strip()
    text = _AROUND_LINES.sub("\n", apply(BOILERPLATE, text, removed))
    return Cleaned(_BLANK_LINES.sub("\n\n", text).strip(), tuple(removed))


def _without_markup(text: str, removed: list[Removed]) -> str:
    for _ in range(_MAX_DEPTH):
        before, text = text, apply(MARKUP, text, removed)
        if text == before:
            break
        text = normalize(text)
    return text
