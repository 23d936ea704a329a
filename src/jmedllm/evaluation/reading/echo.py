"""Remove what a response repeats from the question, because it says nothing about the answer."""

import re
from collections.abc import Iterator
from functools import lru_cache

from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.reading.texts import EDGE, fold, key, normalise

_SENTENCE = re.compile(r"[^。?\n.]+(?:[。?]|\.(?=\s|$)|\.(?=\S)[^。?\n.]*)*")
_AROUND = f"[{re.escape(EDGE.replace(' ', '').replace(chr(10), ''))}「」]*"
_SHORTEST = 14
"""Shorter sentences of a question may occur in an answer by chance."""


def without_echo(question: Question, text: str) -> str:
    """Remove the question and a list of all its choices from `text`; return it unchanged if it repeats neither."""
    said = normalise(text)
    plain = said
    flat = fold(said).replace("\n", " ")
    if len(question.choices) > 2 and all(fold(key(choice)) in flat for choice in question.choices):
        for listed in _patterns(question):
            plain = re.sub(listed, "\n", plain, flags=re.IGNORECASE)
    for sentence in _sentences(question.stem):
        if not any(sentence in key(choice) for choice in question.choices):
            plain = plain.replace(sentence, "\n")
    return text if plain == said else plain.strip()


def _patterns(question: Question) -> Iterator[str]:
    """Patterns of the choices in order: behind their labels, and without labels on one line or on several."""
    texts = [_AROUND + re.sub(r"(?:\\ )+", r"\\s+", re.escape(key(choice))) + _AROUND for choice in question.choices]
    labelled = [rf"[(\[]?{label(index)}[)\].:、,\s]+{text}" for index, text in enumerate(texts)]
    yield r"(?<![A-Za-z0-9])" + r"[\s,、;/・*|-]*".join(labelled) + r"(?![A-Za-z0-9])"
    yield r"(?<!\w)" + r"\s*[,、;/・\n]\s*[*-]?\s*".join(texts) + r"(?!\w)"


@lru_cache(maxsize=4096)
def _sentences(stem: str) -> tuple[str, ...]:
    whole = normalise(stem)
    found = [sentence.strip() for sentence in _SENTENCE.findall(whole)]
    return tuple(part for part in (whole, *found) if len(part) >= _SHORTEST)
