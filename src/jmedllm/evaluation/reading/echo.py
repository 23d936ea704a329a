"""Remove what a response repeats from the question, because it says nothing about the answer."""

import re
from collections.abc import Iterator
from functools import lru_cache

from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.reading.extracted import fits
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
    """Return patterns of the choices in order: behind their labels, and without labels on one line or on several."""
    texts = _texts(question)
    labelled = [rf"[(\[]?{label(index)}[)\].:、,\s]+{text}" for index, text in enumerate(texts)]
    yield r"(?<![A-Za-z0-9])" + r"[\s,、;/・*|-]*".join(labelled) + r"(?![A-Za-z0-9])"
    yield r"(?<!\w)" + r"\s*[,、;/・\n]\s*[*-]?\s*".join(texts) + r"(?!\w)"


def _texts(question: Question) -> list[str]:
    """Return patterns of the choices' texts, with any spaces and brackets around them."""
    return [_AROUND + re.sub(r"(?:\\ )+", r"\\s+", re.escape(key(choice))) + _AROUND for choice in question.choices]


def without_open_list(question: Question, text: str) -> tuple[str, bool]:
    """Remove a list of the first choices that ends `text`, such as "A. fever\\nB. cough\\nC. ra".

    A list with as many complete choices as the question asks for may be the answer, so it is kept.

    Returns:
        The text without the list, and whether the list breaks off inside a choice.
    """
    said = normalise(text)
    if fold(key(question.choices[0])) in fold(said).replace("\n", " "):
        for start, count, is_cut in _open_lists(question, said):
            if count > question.select and (is_cut or not fits(question, count)):
                return said[:start].rstrip(), is_cut
    return text, False


def _open_lists(question: Question, said: str) -> Iterator[tuple[int, int, bool]]:
    """Yield the lists of the first choices that end `said`, the last one first.

    Each is its start, its number of choices, and whether its last choice is incomplete.
    """
    texts = _texts(question)
    for labels, separator in ((_LABEL, _BETWEEN), ("", _NEXT_LINE)):
        marks = [labels.format(letter=label(index), number=index + 1) for index in range(len(texts))]
        items = [rf"(?<![A-Za-z0-9]){mark}{text}(?!\w)" for mark, text in zip(marks, texts, strict=True)]
        for first in reversed(list(re.finditer(items[0], said, re.IGNORECASE))):
            count, end = 1, first.end()
            while count < len(items) and (
                item := re.compile(separator + items[count], re.IGNORECASE).match(said, end)
            ):
                count, end = count + 1, item.end()
            rest = said[end:]
            if not rest.strip():
                yield first.start(), count, False
            elif count < len(items) and _begins(question.choices[count], separator, marks[count], rest):
                yield first.start(), count + 1, True


_LABEL = r"(?:(?:選択肢|options?|choices?)\s?)?[(\[]?(?:{letter}|{number})[)\].:、,\s]+"
_BETWEEN = r"[\s,、;/・*|•●○-]*"
_NEXT_LINE = r"\s*\n[\s*•・●○-]*"


def _begins(choice: str, separator: str, mark: str, rest: str) -> bool:
    """Return whether `rest` is an incomplete choice, behind its label if the list has labels."""
    found = re.match(separator + mark.removesuffix("+") + ("*" if mark else ""), rest, re.IGNORECASE)
    begun = fold(key(rest[found.end() :])) if found else ""
    # Without labels, a single letter is one.
    enough = bool(mark) or not re.fullmatch("[a-z]?", begun)
    return found is not None and enough and fold(key(choice)).startswith(begun)


@lru_cache(maxsize=4096)
def _sentences(stem: str) -> tuple[str, ...]:
    whole = normalise(stem)
    found = [sentence.strip() for sentence in _SENTENCE.findall(whole)]
    return tuple(part for part in (whole, *found) if len(part) >= _SHORTEST)
