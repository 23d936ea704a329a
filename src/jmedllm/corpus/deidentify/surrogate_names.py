"""Replaces names of persons by others of the lists, in the same form: kanji, kana, half-width kana, Latin letters."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from jmedllm.corpus.deidentify.fold import fold_names
from jmedllm.corpus.deidentify.keyed import Keyed
from jmedllm.corpus.deidentify.lexicon import Lexicon, lexicon, romaji_spellings, surname_rows, to_katakana, to_romaji
from jmedllm.corpus.deidentify.lists import rows, words

_COMMON = 400
"""Surnames are drawn from so many of the most common ones, so that a surrogate points at nobody."""

_HALF = {unicodedata.normalize("NFKC", chr(code)): chr(code) for code in range(0xFF66, 0xFF9E)}
for _code in range(0xFF66, 0xFF9E):
    for _mark in "ﾞﾟ":
        _voiced = unicodedata.normalize("NFKC", chr(_code) + _mark)
        if len(_voiced) == 1:
            _HALF[_voiced] = chr(_code) + _mark


@dataclass(frozen=True, slots=True)
class ListedName:
    """A name in kanji and its reading in hiragana."""

    spelling: str
    reading: str


@lru_cache(maxsize=1)
def _families() -> tuple[ListedName, ...]:
    return tuple(ListedName(name, reading) for name, reading in surname_rows())[:_COMMON]


@lru_cache(maxsize=2)
def _given(sex: str) -> tuple[ListedName, ...]:
    """Return given names of two kanji, or of kana, that only one sex has."""
    file = {"m": "given_names_male.tsv", "f": "given_names_female.tsv"}[sex]
    return tuple(
        ListedName(spellings[0], reading)
        for reading, *spellings in rows(file)
        if spellings and len(spellings[0]) == 2 and 2 <= len(reading) <= 4
    )


@lru_cache(maxsize=1)
def _readings() -> dict[str, str]:
    """Return the reading of each surname and given name of the lists; of several, the first."""
    found: dict[str, str] = {}
    for name, reading in surname_rows():
        found.setdefault(name, reading)
    for file in ("given_names_male.tsv", "given_names_female.tsv"):
        for reading, *spellings in rows(file):
            for spelling in spellings:
                found.setdefault(spelling, reading)
    return found


@lru_cache(maxsize=1)
def _female() -> frozenset[str]:
    return frozenset(name for reading, *spellings in rows("given_names_female.tsv") for name in (reading, *spellings))


@lru_cache(maxsize=1)
def _male() -> frozenset[str]:
    return frozenset(name for reading, *spellings in rows("given_names_male.tsv") for name in (reading, *spellings))


def replace_name(text: str, keyed: Keyed, readings: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return another name in the form of `text`: with its spaces, in its script, and of its sex where that is known.

    Args:
        text: the name.
        keyed: the key.
        readings: readings that the document gives, by spelling. Of other names the usual reading is taken.
    """
    folded = _folded(text)
    gap = next((char for char in text if char.isspace() or char in "・"), "")
    if re.search(r"[A-Za-z]", folded):
        return _latin(folded, keyed)
    names = lexicon()
    kana = not re.search(r"[一-龥々\U00020000-\U0003ffff]", folded)
    family, given = split_name(folded, names)
    new = []
    if family:
        drawn = keyed.choose("family", _key(family, readings), _families())
        new.append(drawn)
    if given:
        key = _key(given, readings)
        is_male = (key in _male() and key not in _female()) or (given in _male() and given not in _female())
        new.append(keyed.choose("given", key, _given("m" if is_male else "f")))
    return gap.join(_as_script(each, text) if kana else each.spelling for each in new)


def split_name(folded: str, names: Lexicon) -> tuple[str, str]:
    """Return the surname and the given name of a name; "" for what it lacks."""
    parts = re.split(r"[\s・]+", folded.strip())
    if len(parts) > 1:
        return parts[0], "".join(parts[1:])
    name = parts[0]
    for size in range(min(5, len(name)), 0, -1):
        if name[:size] in names.surnames and (size == len(name) or name[size:] in names.given):
            return name[:size], name[size:]
    if name in names.given:
        return "", name
    size = names.longest(name, 0, names.surnames)
    if size > 1:
        return name[:size], name[size:]
    return (name, "") if len(name) < 4 else (name[:2], name[2:])


def _key(name: str, readings: Mapping[str, str]) -> str:
    """Return what a name is known by in every script: its reading."""
    return _hiragana(readings.get(name) or _readings().get(name, name))


def given_readings(kanji: str, kana: str) -> dict[str, str]:
    """Return the readings of the surname and the given name of a full name whose kana are spaced."""
    names = lexicon()
    family, given = split_name(_folded(kanji), names)
    read_family, read_given = split_name(_folded(kana), names)
    return {family: read_family, given: read_given} if family and given and read_family and read_given else {}


def _folded(text: str) -> str:
    return fold_names(unicodedata.normalize("NFKC", text))


def _hiragana(text: str) -> str:
    return "".join(chr(ord(char) - 0x60) if "ァ" <= char <= "ヶ" else char for char in text)


def _as_script(name: ListedName, original: str) -> str:
    if any("ｦ" <= char <= "ﾟ" for char in original):
        return "".join(_HALF.get(char, char) for char in to_katakana(name.reading))
    return to_katakana(name.reading) if re.search(r"[ァ-ヺ]", original) else name.reading


def _latin(text: str, keyed: Keyed) -> str:
    """Return another name in Latin letters. Initials stay initials, and capitals capitals."""
    names = lexicon()
    english: Sequence[str] = sorted(words("english_given_names.tsv"))

    def other(match: "re.Match[str]") -> str:
        word = match[0]
        lower = word.lower()
        if word.rstrip(".") in ("Dr", "Mr", "Mrs", "Ms", "Miss", "Prof", "Nurse", "Doctor"):
            return word
        if len(word) == 1:
            return keyed.choose("initial", word, "ABCDEFGHJKLMNPRSTW")
        if lower in names.romaji_surnames:
            new = (
                to_romaji(keyed.choose("family", _from_romaji(lower, _families()), _families()).reading)
                .replace("ou", "o")
                .replace("uu", "u")
            )
        elif lower in names.romaji_given and word not in english:
            new = to_romaji(keyed.choose("given", lower, _given("f")).reading).replace("ou", "o")
        elif word in english:
            new = keyed.choose("english", lower, english)
        else:
            new = keyed.choose("english-family", lower, _ENGLISH_FAMILIES)
        return new.upper() if word.isupper() else new.title() if word[0].isupper() else new.lower()

    return re.sub(r"[A-Za-z]+(?:['-][A-Za-z]+)*", other, text)


def _from_romaji(lower: str, families: Sequence[ListedName]) -> str:
    return next((each.reading for each in families if lower in romaji_spellings(each.reading)), lower)


_ENGLISH_FAMILIES = (
    "Abbott", "Barker", "Carver", "Dalton", "Everett", "Farrell", "Garner", "Hobbs", "Irwin", "Jarvis", "Keller",
    "Lowell", "Mercer", "Norris", "Osborne", "Porter", "Quincy",
    "Ramsey", "Sawyer", "Tucker", "Underwood", "Vaughn", "Walsh", "Yates", "Ziegler", "Ashby", "Bowen", "Coleman",
    "Draper", "Ellison", "Foster", "Gibbs", "Hale", "Ingram",
)  # fmt: skip
