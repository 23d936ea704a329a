"""Choice texts: the form in which they are compared, and whole responses made of them."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

from jmedllm.evaluation.question import Question

EDGE = " \n\"'“”‘’`*_.。,、;:!?#"
"""What may stand around an answer without being part of it, besides brackets."""

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
"""In front of a label: "①b ②d"."""
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
    """One width, one kind of space, no emphasis; lines stay lines."""
    text = unicodedata.normalize("NFKC", _INVISIBLE.sub("", _NUMBER_OF_ONE.sub(" ", text)))
    text = _LATEX_BRACKET.sub("", _LATEX_TEXT.sub(r"\1", text))
    return _BREAKS.sub("\n", _SPACES.sub(" ", _EMPHASIS.sub("", text))).strip()


def fold(text: str) -> str:
    """Lower case, of the same length, so that places in it are places in `text`."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


@lru_cache(maxsize=4096)
def key(text: str) -> str:
    """A choice or answer as it is looked for: normalised, on one line, without what stands around it."""
    text = normalise(text).replace("\n", " ").strip(EDGE)
    while len(text) > 1 and _enclosed(text):
        text = text[1:-1].strip(EDGE)
    return text


def _enclosed(text: str) -> bool:
    """Whether one pair of brackets holds all of `text`."""
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
    """The choices whose texts, letter by letter, are all that `text` is."""
    return _by(question, text, (_raw, key))


def same_texts(question: Question, text: str) -> frozenset[int]:
    """The choices whose texts are all that `text` is, in any case and with any spaces."""
    return _by(question, text, (lambda t: fold(key(t)), _loose))


def _by(question: Question, text: str, forms: tuple[Callable[[str], str], ...]) -> frozenset[int]:
    for form in forms:
        for candidate in dict.fromkeys((text, _BULLET.sub("", text))):
            keys = _told_apart(question, form)
            # One answer first: a choice may be made of others and commas. Bullets stand in lines of their own.
            found = _whole(keys, form(candidate)) or _tiled(keys, question.select, _joined(candidate, form))
            if found:
                return found
    return frozenset()


def same_numbers(question: Question, text: str) -> frozenset[int]:
    """The choice that `text` gives the number of, where all choices are numbers with one unit: "30" for "30%"."""
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


def _told_apart(question: Question, form: Callable[[str], str]) -> list[str]:
    """The choices in this form; an empty text for those that only this form makes equal ("Bb" and "BB")."""
    texts: dict[str, set[str]] = {}
    for choice in question.choices:
        texts.setdefault(form(choice), set()).add(key(choice))
    return [k if len(texts[k]) == 1 else "" for k in map(form, question.choices)]


def _whole(keys: list[str], text: str) -> frozenset[int]:
    """The choice that `text` is; of choices with equal texts the first."""
    return frozenset([i for i, k in enumerate(keys) if k and k == text][:1])


def _tiled(keys: list[str], count: int, text: str) -> frozenset[int]:
    """Several texts with separators in between that fill `text`; as many as are asked for, if that is possible."""
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
