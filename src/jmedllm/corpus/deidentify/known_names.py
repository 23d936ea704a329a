"""Derives the usual spellings of a known person's name: kanji, kana, Latin letters, and parts that need a title."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from jmedllm.corpus.deidentify.fold import fold_names
from jmedllm.corpus.deidentify.known_list import KnownRow
from jmedllm.corpus.deidentify.lexicon import Lexicon, given_rows, romaji_spellings, surname_rows, to_katakana

_MOST_READINGS = 2
"""Readings that are derived for a given name without kana: the two that most spellings have."""

_KUNREI = (
    ("tch", "tty"), ("shi", "si"), ("sh", "sy"), ("chi", "ti"), ("ch", "ty"), ("ttyi", "tti"), ("tsu", "tu"),
    ("fu", "hu"), ("ji", "zi"), ("j", "zy"),
)  # fmt: skip
_KANA = re.compile(r"[ぁ-ゖァ-ヺー]+")


@dataclass(frozen=True, slots=True)
class KnownName:
    """A name in folded forms; "" for what is not known.

    Attributes:
        readings: possible readings of surname and given name, in hiragana.
    """

    whole: str
    family: str
    given: str
    readings: tuple[tuple[str, str], ...]


def known_name(row: KnownRow, names: Lexicon) -> KnownName:
    """Return the name of a row, split where the list or the lists of names say where."""
    family, given = row.get("surname", ""), row.get("given_name", "")
    whole = _spaced(row.get("name", "") or f"{family} {given}")
    if not (family or given):
        family, given = _split(whole, names)
    kana = _spaced(row.get("kana", "") or f"{row.get('surname_kana', '')} {row.get('given_name_kana', '')}")
    family, given = _spaced(family).replace(" ", ""), _spaced(given).replace(" ", "")
    return KnownName(whole.replace(" ", ""), family, given, tuple(_readings(kana, family, given)))


def full_spellings(name: KnownName) -> Iterator[str]:
    """Yield the spellings of a full name without spaces."""
    if len(name.whole) > 1:
        yield name.whole
    for family, given in name.readings:
        if not given and not name.given:
            continue  # a surname alone is no full name
        yield family + given
        yield to_katakana(family + given)
        for one in _latin(family):
            for other in _latin(given):
                yield one + other
                yield other + one


def partial_spellings(name: KnownName) -> Iterator[str]:
    """Yield a surname and a given name in kanji and kana, which need a title or the edges of words."""
    yield from (each for each in (name.family, name.given) if each)
    for reading in name.readings:
        for part in reading:
            yield part
            yield to_katakana(part)
    if not name.family and len(name.whole) == 1:
        yield name.whole


def _split(name: str, names: Lexicon) -> tuple[str, str]:
    if " " in name:
        family, _, given = name.partition(" ")
        return family, given
    size = names.longest(name, 0, names.surnames)
    if size == len(name):
        return name, ""
    sizes = [n for n in range(1, len(name)) if name[:n] in names.surnames and name[n:] in names.given]
    if sizes or size:
        return name[: max(sizes, default=size)], name[max(sizes, default=size) :]
    size = next((n for n in range(1, len(name)) if name[n:] in names.given), 0)  # a rare surname before a known name
    return name[:size], name[size:] if size else ""


def _readings(kana: str, family: str, given: str) -> Iterator[tuple[str, str]]:
    """Yield the reading that a list gives, or the usual ones of the name."""
    if " " in kana:
        first, _, second = kana.partition(" ")
        yield _hiragana(first), _hiragana(second.replace(" ", ""))
        return
    usual = [family] if _KANA.fullmatch(family) else _family_readings().get(family, [])
    if kana:
        reading = _hiragana(kana)
        start = next((each for each in usual if reading.startswith(each) and len(each) < len(reading)), "")
        yield (start, reading.removeprefix(start)) if start else (reading, "")
        return
    others = [given] if _KANA.fullmatch(given) or not given else _given_readings().get(given, [])
    yield from ((_hiragana(one), _hiragana(other)) for one in usual for other in others[:_MOST_READINGS])


@lru_cache(maxsize=10_000)
def _latin(reading: str) -> frozenset[str]:
    """Return a reading in Hepburn's and Kunrei spelling."""
    hepburn = romaji_spellings(reading)
    return frozenset(hepburn | {_kunrei(each) for each in hepburn})


def _kunrei(text: str) -> str:
    for hepburn, kunrei in _KUNREI:
        text = text.replace(hepburn, kunrei)
    return text


@lru_cache(maxsize=1)
def _family_readings() -> Mapping[str, list[str]]:
    found = defaultdict[str, list[str]](list)
    for name, reading in surname_rows():
        found[fold_names(name)].append(reading)
    return dict(found)


@lru_cache(maxsize=1)
def _given_readings() -> Mapping[str, list[str]]:
    """Return the readings of each given name, that with the most spellings first."""
    spellings = defaultdict[str, int](int)
    found = defaultdict[str, set[str]](set)
    for name, reading in given_rows():
        spellings[reading] += 1
        found[fold_names(name)].add(reading)
    return {name: sorted(readings, key=lambda each: (-spellings[each], each)) for name, readings in found.items()}


def _spaced(text: str) -> str:
    """Return a name with folded forms and single spaces."""
    return " ".join(fold_names(unicodedata.normalize("NFKC", text)).replace("・", " ").split())


def _hiragana(text: str) -> str:
    return "".join(chr(ord(char) - 0x60) if "ァ" <= char <= "ヶ" else char for char in text)
