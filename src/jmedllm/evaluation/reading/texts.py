"""Compare texts with the texts of choices."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

from jmedllm.evaluation.question import Question

EDGE = " \n\"'“”‘’`*_.。,、;:!?#"
"""Characters around an answer that are not part of it, besides brackets."""

PAIRS = {
    "「": "」",
    "『": "』",
    "(": ")",
    "[": "]",
    "{": "}",
    "《": "》",
    "〈": "〉",
    "【": "】",
    "〔": "〕",
    "≪": "≫",
    "⟨": "⟩",
    "<": ">",
    "«": "»",
}

_INVISIBLE = re.compile("[\u200b\u200c\u200d\u2060\ufeff\u00ad\ufe0e\ufe0f]")
_NUMBER_OF_ONE = re.compile(r"[①-⑨](?=\s?[A-Za-zＡ-Ｚａ-ｚ](?![A-Za-zＡ-Ｚａ-ｚ0-9]))")
"""A number in front of a label: "①b ②d"."""
_SPACES = re.compile(r"[^\S\n]+")
_BREAKS = re.compile(r" ?\n[ \n]*")
_EMPHASIS = re.compile(r"\*\*|__|`|\$")
_LATEX_TEXT = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mathsf)\{([^{}]*)\}")
_LATEX_BRACKET = re.compile(r"\\[()\[\]]")
_SEPARATOR = re.compile(
    r"[\s\"'“”‘’.。「」]*(?:,|、|;|/|・|\n|と|および|及び|ならびに|\band\b|&)[\s\"'“”‘’「」]*(?:and\b\s*)?"
)
_NUMBER_UNIT = re.compile(r"(?P<number>\d[\d,]*(?:\.\d+)?)\s?(?P<unit>[^\s\d]{0,12})")
_UNIT_WORDS = {"percent": "%", "パーセント": "%"}
_BULLET = re.compile(r"^(?:[-*•・●○]|\d{1,2}[.)])\s+", re.MULTILINE)


def normalise(text: str) -> str:
    """Normalise width and spaces and remove emphasis; lines are kept."""
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", _NUMBER_OF_ONE.sub(" ", text)))
    text = _LATEX_BRACKET.sub("", _LATEX_TEXT.sub(r"\1", text))
    return _BREAKS.sub("\n", _SPACES.sub(" ", _EMPHASIS.sub("", text))).strip()


def fold(text: str) -> str:
    """Convert to lower case of the same length, so that positions are those of `text`."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


@lru_cache(maxsize=4096)
def key(text: str) -> str:
    """Normalise a choice or answer to one line without quotes, brackets and punctuation around it."""
    text = normalise(text).replace("\n", " ").strip(EDGE)
    while len(text) > 1 and _enclosed(text):
        text = text[1:-1].strip(EDGE)
    return text


def _enclosed(text: str) -> bool:
    """Return whether one pair of brackets encloses all of `text`."""
    left, right, depth = text[0], PAIRS.get(text[0], ""), 0
    if text[-1] != right:
        return False
    for place, char in enumerate(text):
        depth += (char == left) - (char == right)
        if not depth:
            return place == len(text) - 1
    return False


def _raw(text: str) -> str:
    return " ".join(text.split())


def _loose(text: str) -> str:
    return re.sub(r"\s+", "", fold(key(text)))


def exact_texts(question: Question, text: str) -> frozenset[int]:
    """Return the choices whose exact texts make up all of `text`."""
    return _by(question, text, (_raw, key))


def same_texts(question: Question, text: str) -> frozenset[int]:
    """Return the choices whose texts make up all of `text`, ignoring case and spaces."""
    return _by(question, text, (lambda t: fold(key(t)), _loose))


def _by(question: Question, text: str, forms: tuple[Callable[[str], str], ...]) -> frozenset[int]:
    for form in forms:
        for candidate in dict.fromkeys((text, _BULLET.sub("", text))):
            keys = _distinct(question, form)
            # One choice first, because a choice may consist of others and commas. Bullets are on separate lines.
            found = _whole(keys, form(candidate)) or _tiled(keys, question.select, _joined(candidate, form))
            if found:
                return found
    return frozenset()


def same_numbers(question: Question, text: str) -> frozenset[int]:
    """Return the choice whose number is `text`, if all choices are numbers with one unit: "30" for "30%"."""
    choices = [_NUMBER_UNIT.fullmatch(key(choice)) for choice in question.choices]
    said = _NUMBER_UNIT.fullmatch(key(text))
    if said is None or None in choices:
        return frozenset()
    units = {_UNIT_WORDS.get(choice["unit"], choice["unit"]) for choice in choices if choice}
    if len(units) != 1 or _UNIT_WORDS.get(said["unit"], said["unit"]) not in {"", *units}:
        return frozenset()
    return frozenset(i for i, choice in enumerate(choices) if choice and choice["number"] == said["number"])


def _joined(text: str, form: Callable[[str], str]) -> str:
    lines = [line for line in text.split("\n") if line.strip()]
    return form(",".join(line.rstrip(" ,、;") for line in lines) if len(lines) > 1 else text)


def _distinct(question: Question, form: Callable[[str], str]) -> list[str]:
    """Return the choices in this form; empty for those that only this form makes equal ("Bb" and "BB")."""
    texts: dict[str, set[str]] = {}
    for choice in question.choices:
        texts.setdefault(form(choice), set()).add(key(choice))
    return [k if len(texts[k]) == 1 else "" for k in map(form, question.choices)]


def _whole(keys: list[str], text: str) -> frozenset[int]:
    """Return the choice with the text `text`; of several the first."""
    return frozenset([i for i, k in enumerate(keys) if k and k == text][:1])


def _tiled(keys: list[str], count: int, text: str) -> frozenset[int]:
    """Return the choices whose texts, with separators, fill `text`; the number asked for, if that is possible."""
    found = None
    for tiles in _tilings(keys, text, ()):
        if len(tiles) == count:
            return frozenset(tiles)
        found = found or tiles
    return frozenset(found or ())


def _tilings(keys: list[str], text: str, before: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    longest_first = sorted(range(len(keys)), key=lambda i: (-len(keys[i]), i))
    for i in longest_first:
        if i in before or not keys[i] or not text.startswith(keys[i]):
            continue
        rest = text[len(keys[i]) :]
        if not rest.strip(EDGE):
            yield (*before, i)
        elif separator := _SEPARATOR.match(rest):
            yield from _tilings(keys, rest[separator.end() :], (*before, i))
