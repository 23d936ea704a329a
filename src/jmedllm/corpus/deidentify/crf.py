"""Finds names by a conditional random field over characters (python-crfsuite), which reads their context.

`tools/train_deidentification.py` trains the model on generated notes; none of them describes a real person.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from jmedllm.corpus.deidentify.addresses import municipality_at
from jmedllm.corpus.deidentify.lexicon import Lexicon
from jmedllm.corpus.deidentify.spans import Label, Span
from jmedllm.corpus.deidentify.tokens import Token
from jmedllm.errors import not_installed

MODEL = Path(__file__).parent / "names.crfsuite"
KINDS: tuple[Label, ...] = ("NAME", "HOSPITAL", "ORG", "LOCATION")

_LONGEST_WORD = 100
"""Characters of a word for the model."""

_SENTENCE = re.compile(r"[^\n。]+[\n。]*")
_HAS_LETTERS = re.compile(r"[^\W\d_]")


def _type(char: str) -> str:
    if "一" <= char <= "鿿" or char in "々〆" or char >= "𠀀":
        return "K"
    if "ぁ" <= char <= "ゖ":
        return "h"
    if "ァ" <= char <= "ヺ" or char == "ー":
        return "k"
    if char.isdigit():
        return "9"
    if char.isalpha():
        return "A" if char.isupper() else "a"
    return "_" if char.isspace() else char


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of the sentences and lines that have letters: the sequences of the model."""
    for match in _SENTENCE.finditer(text):
        if _HAS_LETTERS.search(match[0]):
            yield match.span()


def features(text: str, tokens: Sequence[Token], names: Lexicon) -> list[list[str]]:
    """Return the features of each character of a text whose widths and kanji are folded."""
    types = [_type(char) for char in text]
    dictionary = _dictionary(text, types, names)
    words = _words(text, tokens, names)
    chars = ["^", "^", *text, "$", "$"]
    kinds = ["^", "^", *types, "$", "$"]
    found = []
    for at in range(len(text)):
        b, a, c, n, m = chars[at : at + 5]
        s, t, u, v, w = kinds[at : at + 5]
        found.append(
            [
                f"c={c}", f"a={a}", f"n={n}", f"b={b}{a}", f"m={n}{m}", f"ac={a}{c}", f"cn={c}{n}",
                f"t={t}{u}{v}", f"T={s}{t}{u}{v}{w}",
                *words[at],
                *dictionary[at],
            ]
        )  # fmt: skip
    return found


def _words(text: str, tokens: Sequence[Token], names: Lexicon) -> list[list[str]]:
    """Return features of the word around each character, and of the words before and after it."""
    found: list[list[str]] = [[] for _ in text]
    solid = [token for token in tokens if not token.text.isspace()]
    label = ""
    for place, token in enumerate(solid):
        before = [solid[each].text if each >= 0 else "^" for each in (place - 1, place - 2)]
        after = [solid[each].text if each < len(solid) else "$" for each in (place + 1, place + 2)]
        if "\n" in text[solid[place - 1].end : token.start] if place else False:
            before, label = ["^", before[0]], ""
        if token.text in (":", "：") and place:
            label = solid[place - 1].text
        elif token.text == "。":
            label = ""
        kind = f"{token.part}-{token.kind}{'?' if token.unknown else ''}"
        lower = token.text.lower()
        latin = ("S" if lower in names.romaji_surnames else "") + ("G" if lower in names.romaji_given else "")
        previous = solid[place - 1].kind if place else "^"
        following = solid[place + 1].kind if place + 1 < len(solid) else "$"
        shared = [
            f"k={kind}", f"p1={before[0]}", f"p2={before[1]}", f"n1={after[0]}", f"n2={after[1]}", f"l={label}",
            f"kk={previous}|{kind}|{following}",
        ]  # fmt: skip
        if latin:
            shared.append(f"rom={latin}")
        length = len(token.text)
        for offset in range(length):
            position = "S" if length == 1 else "B" if offset == 0 else "E" if offset == length - 1 else "I"
            found[token.start + offset] = [f"kp={kind}{position}", f"w={token.text}", *shared]
    return found


def _dictionary(text: str, types: Sequence[str], names: Lexicon) -> list[list[str]]:
    """Return features of names of the lists, and of municipalities, that begin or end at each character."""
    found: list[list[str]] = [[] for _ in text]
    length = len(text)
    families = [names.longest(text, at, names.surnames) if types[at] in "Khk" else 0 for at in range(length)]
    firsts = [names.longest(text, at, names.given) if types[at] in "Khk" else 0 for at in range(length)]
    for at in range(length):
        if size := families[at]:
            found[at].append(f"sB{size}")
            found[at + size - 1].append(f"sE{size}")
            gap = at + size
            if gap < length and text[gap] == " ":
                gap += 1
            if gap < length and firsts[gap]:
                last = gap + firsts[gap] - 1
                for inside in range(at, last + 1):
                    place = "B" if inside == at else "E" if inside == last else "I"
                    found[inside].append(f"f{place}{size}{firsts[gap]}")
        if size := firsts[at]:
            found[at].append(f"gB{size}")
            found[at + size - 1].append(f"gE{size}")
        if text[at] in "市区町村" and (start := municipality_at(text, at + 1)) is not None:
            found[start].append("mB")
            found[at].append("mE")
    return found


def find_by_context(text: str, tokens: Sequence[Token], names: Lexicon) -> Iterator[Span]:
    """Yield names of persons, providers, employers and places in a text whose widths and kanji are folded."""
    tagger = _tagger()
    each_feature = features(text, [piece for token in tokens for piece in _divided(token)], names)
    for start, end in sentences(text):
        tags = tagger.tag(each_feature[start:end])
        yield from _spans(tags, start)


def _divided(token: Token) -> Iterator[Token]:
    """Divide a word that is too long to be one, such as a picture in base64: features repeat it at each character."""
    if token.end - token.start <= _LONGEST_WORD:
        yield token
        return
    for start in range(0, token.end - token.start, _LONGEST_WORD):
        text = token.text[start : start + _LONGEST_WORD]
        yield replace(token, start=token.start + start, end=token.start + start + len(text), text=text)


def _spans(tags: Sequence[str], offset: int) -> Iterator[Span]:
    start, kind = 0, ""
    for at, tag in enumerate((*tags, "O")):
        if kind and tag != f"I-{kind}":
            yield Span(offset + start, offset + at, _KIND[kind], "likely", f"context:{kind.lower()}")
            kind = ""
        if tag != "O" and not kind:
            start, kind = at, tag[2:]


_KIND: dict[str, Label] = {kind: kind for kind in KINDS}


@lru_cache(maxsize=1)
def _tagger() -> Any:
    try:
        import pycrfsuite
    except ModuleNotFoundError:
        raise not_installed("de-identification", "python-crfsuite") from None
    tagger = pycrfsuite.Tagger()
    tagger.open(str(MODEL))
    return tagger
