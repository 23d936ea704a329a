"""Finds known people: their names and numbers in all usual spellings. Their lists are read, never stored or logged."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from jmedllm.corpus.deidentify.eponyms import eponyms, is_term
from jmedllm.corpus.deidentify.fold import fold_names
from jmedllm.corpus.deidentify.known_list import COLUMNS, KnownList, read_list
from jmedllm.corpus.deidentify.known_names import full_spellings, known_name, partial_spellings
from jmedllm.corpus.deidentify.lexicon import Lexicon
from jmedllm.corpus.deidentify.spans import Label, Span
from jmedllm.corpus.deidentify.titles import HAN, TITLE

_TITLE = re.compile(rf"\s?{TITLE}")
_HAN = re.compile(HAN)
_LETTER = re.compile(r"\w")

_SELECTOR = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Variation selectors, which choose one drawing of the kanji before them."""

_HEAD = 2
"""Characters by which spellings are looked up first; most places of a text begin with none of them."""

_LONGEST_PART = 3
"""Characters of a name that may be a surname or a given name alone."""

_SHORTEST = 4
"""Letters and digits of a number or an address that is looked for anywhere; shorter ones are too common."""

_COMMON = "中上下前後左右東西南北大小高低内外男女"
"""Surnames of one character that are other words, too: 右（患側）."""

_SIGNS_BEFORE = ("", *"\n 　、。，,・/／|｜\t:：(（「【[<＜=＝")
_AFTER_ALONE = re.compile(
    r"$|[\s、。，,・/／|｜:：()（）」】\]>＞]|[がはをもと](?![ぁ-ん])|より|から|に(?:報告|連絡|依頼|相談|確認)|記"
    r"|(?:CDE|ICN|ME|CE|CW|SW|MSW|PSW|CM|Ph)(?![A-Za-z])"
)
"""What is after a surname of one character alone."""

_SAME = str.maketrans("斉齊齋āīūēōâîûêô", "斎斎斎aiueoaiueo")
"""Characters that writers of names mix up or leave out, beyond the old and new forms of kanji."""


@dataclass(frozen=True, slots=True, eq=False)
class Spellings:
    """Spellings with their kinds, and the lengths of those that begin with the same characters, the longest first."""

    labels: Mapping[str, Label]
    lengths: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Spellings of known identifiers, as `_squeeze` leaves them.

    Attributes:
        full: spellings that identify at any place, with their kind.
        families: surnames, and given names, which need a title or the edges of words.
        notes: for each list how many people it has, and which of its columns are used; nothing of its content.
    """

    full: Spellings
    families: Spellings
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return the counts only: what is in here is never to be printed."""
        return f"Known({len(self.full.labels)} spellings, {len(self.families.labels)} parts of names)"


def read_known(paths: Iterable[Path], columns: Mapping[str, str], names: Lexicon) -> Known:
    """Read CSV files with a header; see `read_list`.

    Args:
        paths: the files.
        columns: what further columns are: their header, and a key of `COLUMNS`.
        names: lists of names, which say where a name without a space is split.

    Raises:
        InputError: a file cannot be read, or no column of it is known.
    """
    full: dict[str, Label] = {}
    families: set[str] = set()
    lists = {path: read_list(path, columns) for path in paths}
    for row in (row for each in lists.values() for row in each.rows):
        name = known_name(row, names)
        for spelling in full_spellings(name):
            full[_squeezed(spelling)] = "NAME"
        families.update(map(_squeezed, partial_spellings(name)))
        for key, label in COLUMNS.items():
            value = _squeezed(fold_names(row.get(key, ""))) if label != "NAME" or key == "romaji" else ""
            if len(_LETTER.findall(value)) >= _SHORTEST:
                full.setdefault(value, label)
    long = {spelling: label for spelling, label in full.items() if len(_LETTER.findall(spelling)) > 1}
    notes = tuple(_note(path, each) for path, each in lists.items())
    return Known(_spellings(long), _spellings(dict.fromkeys(families - {""}, "NAME")), notes)


def _note(path: Path, people: KnownList) -> str:
    used = ", ".join(f"{header} ({kind})" for header, kind in people.used.items())
    unused = f"; not used: {', '.join(people.unused)}" if people.unused else ""
    return f"known people of {path}: {len(people.rows):,} rows; used: {used}{unused}"


def known_from(names: Iterable[str]) -> Known:
    """Return names of a document as known ones: short ones need a title or the edges of words.

    Args:
        names: the names, in folded forms.
    """
    spellings = set(map(_squeezed, names))
    full: dict[str, Label] = {name: "NAME" for name in spellings if len(name) > _LONGEST_PART}
    parts: dict[str, Label] = {name: "NAME" for name in spellings if 0 < len(name) <= _LONGEST_PART}
    return Known(_spellings(full), _spellings(parts))


def _spellings(labels: dict[str, Label]) -> Spellings:
    lengths: dict[str, set[int]] = {}
    for spelling in labels:
        lengths.setdefault(spelling[:_HEAD], set()).add(len(spelling))
    return Spellings(labels, {head: tuple(sorted(found, reverse=True)) for head, found in lengths.items()})


def find_known(folded: str, edges: frozenset[int], known: Known) -> Iterator[Span]:
    """Yield known people and numbers in a folded text, also those written with spaces or in half-width kana.

    Args:
        folded: the text.
        edges: where words begin and end.
        known: the lists.
    """
    terms = eponyms(folded)
    squeezed, places = _squeeze(folded)
    for start, end, label in _matches(squeezed, known.full):
        span = Span(places[start], _end(folded, places[end - 1]), label, "certain", "known")
        if _is_whole(folded, span) and not (label == "NAME" and is_term(folded, span.start, span.end, terms)):
            yield span
    for start, end, _ in _matches(squeezed, known.families):
        first, last = places[start], _end(folded, places[end - 1])
        titled = bool(_TITLE.match(folded, last))
        if is_term(folded, first, last, terms) or folded[last : last + 1] in ("市", "区", "町", "村", "県", "駅"):
            continue
        # Kana alone is too often the name of a drug or a maker: 「ヨシダ」.
        is_kanji = bool(_HAN.match(folded, first))
        whole = end - start > 1 and first in edges and last in edges
        if titled or (is_kanji and (whole or _is_alone(folded, first, last))) or _is_reading(folded, first, last):
            yield Span(first, last, "NAME", "certain", "known:part")


def _is_alone(folded: str, start: int, end: int) -> bool:
    """Return whether signs, line ends or particles are around a surname of one character: 担当：林、602 泉（化療）."""
    return (
        folded[start:end] not in _COMMON
        and folded[start - 1 : start] in _SIGNS_BEFORE
        and bool(_AFTER_ALONE.match(folded, end))
    )


def _is_reading(folded: str, start: int, end: int) -> bool:
    """Return whether kana fill brackets after kanji: 森一颯（かずさ）."""
    return (
        folded[start - 1 : start] in ("(", "（")
        and folded[end : end + 1] in (")", "）")
        and bool(_HAN.match(folded, start - 2))
    )


def _squeezed(text: str) -> str:
    return text.lower() if text.isascii() and text.isalnum() else _squeeze(text)[0]


def _squeeze(folded: str) -> tuple[str, list[int]]:
    """Return the text without spaces, in lower case, full-width kana and one form of kanji, and the place of each
    character."""
    chars: list[str] = []
    places: list[int] = []
    for at, char in enumerate(folded.translate(_SAME)):
        if char.isspace() or char in ",・-'" or _SELECTOR.match(char):
            continue
        if char in "ﾞﾟ" and chars:
            chars[-1] = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", chars[-1] + char))
            continue
        if "ｦ" <= char <= "ﾝ" or "\uf900" <= char <= "\ufaff" or char.isascii():
            char = unicodedata.normalize("NFKC", char)[0].lower()
        chars.append(char)
        places.append(at)
    return "".join(chars), places


def _end(folded: str, last: int) -> int:
    """Return the end of a name whose last character is at `last`, with the selectors and voicing marks after it."""
    end = last + 1
    while end < len(folded) and (folded[end] in "ﾞﾟ" or _SELECTOR.match(folded[end])):
        end += 1
    return end


def _matches(text: str, spellings: Spellings) -> Iterator[tuple[int, int, Label]]:
    """Yield the longest spelling at each place, by look-ups: the time does not depend on the number of people."""
    at, labels, lengths = 0, spellings.labels, spellings.lengths
    while at < len(text):
        sizes = lengths.get(text[at : at + _HEAD], ()) + lengths.get(text[at], ())
        size = next((n for n in sizes if text[at : at + n] in labels and at + n <= len(text)), 0)
        if size:
            yield at, at + size, labels[text[at : at + size]]
        at += size or 1


def _is_whole(folded: str, span: Span) -> bool:
    """Return whether a spelling in Latin letters or digits is a whole word, since squeezing joins words."""
    before, after = folded[span.start - 1 : span.start] if span.start else "", folded[span.end : span.end + 1]
    first, last = folded[span.start], folded[span.end - 1]
    return not (before.isascii() and before.isalnum() and first.isascii()) and not (
        after.isascii() and after.isalnum() and last.isascii()
    )
