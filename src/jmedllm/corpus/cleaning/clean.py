"""From the text of a file to the text that a model reads."""

import re
from dataclasses import dataclass

from jmedllm.corpus.cleaning.boilerplate import BOILERPLATE
from jmedllm.corpus.cleaning.characters import normalize
from jmedllm.corpus.cleaning.markup import MARKUP
from jmedllm.corpus.cleaning.pages import reflow
from jmedllm.corpus.cleaning.rules import Removed, apply

_SPACES = re.compile(r" +")
_AROUND_LINES = re.compile(r"[ \t]*\n[ \t]*")
_BLANK_LINES = re.compile(r"\n{3,}")
_LAYERS = 8
"""Depth to which markup within markup (&amp;lt;) is taken out; without an end, &amp;amp;... could take hours."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A clean text, and all that was taken out of it."""

    text: str
    removed: tuple[Removed, ...]


def clean(text: str) -> Cleaned:
    """Clean one document; a pure function, and idempotent for text without page breaks or markup nine deep.

    In this order: characters in one form, markup out, pages joined where "\\f" divides the text into pages,
    boilerplate out; at most one space and one blank line in a row.
    """
    removed: list[Removed] = []
    text = _without_markup(normalize(text), removed)
    if "\f" in text:
        text = reflow(text, removed)
    text = _AROUND_LINES.sub("\n", _SPACES.sub(" ", text)).strip()
    text = _AROUND_LINES.sub("\n", apply(BOILERPLATE, text, removed))
    return Cleaned(_BLANK_LINES.sub("\n\n", text).strip(), tuple(removed))


def _without_markup(text: str, removed: list[Removed]) -> str:
    for _ in range(_LAYERS):
        before, text = text, apply(MARKUP, text, removed)
        if text == before:
            break
        text = normalize(text)
    return text
