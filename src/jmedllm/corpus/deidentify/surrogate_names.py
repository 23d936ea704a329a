"""Replaces names of persons by others of the lists, in the same form: kanji, kana, half-width kana, Latin letters."""

import hashlib
import hmac
import re
import struct
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log
from types import MappingProxyType
from typing import Literal, cast

from jmedllm.corpus.deidentify.fold import fold_names
from jmedllm.corpus.deidentify.keyed import Keyed
from jmedllm.corpus.deidentify.lexicon import Lexicon, lexicon, romaji_spellings, surname_rows, to_katakana, to_romaji
from jmedllm.corpus.deidentify.lists import rows
from jmedllm.corpus.deidentify.surrogate_english import ENGLISH_TITLES, is_english, other_english
from jmedllm.corpus.deidentify.tokens import reading_of

Sex = Literal["m", "f", "either"]
Aliases = Mapping[str, str]

_TOO_COMMON = 100
"""The most common surnames are no surrogates: too often they are names of others in the same text."""

_SPELLINGS = 8
"""A given name is a surrogate if its reading has at least so many spellings: then it is common."""

_GIVEN_FILES: dict[Literal["m", "f"], str] = {"m": "given_names_male.tsv", "f": "given_names_female.tsv"}
_MALE_END = re.compile("[郎朗男雄夫介助太也彦之志樹斗輝治司士人一二三平吉蔵造作弘博隆誠豊勇進]$")
_FEMALE_END = re.compile("[子美代恵江枝乃香奈菜花紀穂莉里織音葉ヨエミコ]$")
_KANA = re.compile(r"[ぁ-ゖァ-ヺー]+")
_LATIN_PART = re.compile("([A-Za-zＡ-Ｚａ-ｚ][A-Za-zＡ-Ｚａ-ｚ'’.-]*\\s?)")
_GAP = re.compile(r"[\s・]+")

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
    """Return surnames, one for each reading: its most common spelling."""
    found: dict[str, ListedName] = {}
    common = [reading for _, reading in surname_rows()][:_TOO_COMMON]
    for spelling, reading in surname_rows():
        if reading not in common and len(spelling) > 1 and not _KANA.search(spelling):
            found.setdefault(reading, ListedName(spelling, reading))
    return tuple(found.values())


@lru_cache(maxsize=3)
def _given(sex: Sex) -> tuple[ListedName, ...]:
    """Return given names of two kanji of a sex, or of either, one for each reading: with its most usual characters."""
    male, female = ({reading: names for reading, *names in rows(file)} for file in _GIVEN_FILES.values())
    characters = Counter("".join(name for names in (male, female) for each in names.values() for name in each))
    men, women = _listed("m"), _listed("f")

    def fits(name: str) -> bool:
        looks_male, looks_female = bool(_MALE_END.search(name)), bool(_FEMALE_END.search(name))
        if sex == "either":
            fitting = name in men and name in women and not looks_male and not looks_female
        else:
            fitting = name not in (women if sex == "m" else men) and not (looks_female if sex == "m" else looks_male)
        return fitting and len(name) == 2 and not _KANA.search(name)

    def usual(name: str) -> tuple[float, str]:
        return sum(log(characters[char]) for char in name), name

    found: dict[str, ListedName] = {}
    for reading in sorted(male.keys() | female.keys()):
        both = reading in male and reading in female
        is_of = both if sex == "either" else not both and reading in (male if sex == "m" else female)
        spellings = [*male.get(reading, ()), *female.get(reading, ())]
        fitting = [name for name in spellings if fits(name)]
        if is_of and fitting and len(spellings) >= _SPELLINGS and 2 <= len(reading) <= 4:
            spelling = max(fitting, key=usual)
            found.setdefault(spelling, ListedName(spelling, reading))
    return tuple(found.values())


@lru_cache(maxsize=2)
def _listed(sex: Literal["m", "f"]) -> frozenset[str]:
    """Return the readings and spellings of given names of a sex."""
    return frozenset(name for row in rows(_GIVEN_FILES[sex]) for name in row)


@lru_cache(maxsize=1)
def _family_readings() -> Mapping[str, str]:
    return {fold_names(name): reading for name, reading in surname_rows()}


@lru_cache(maxsize=1)
def _given_readings() -> Mapping[str, str]:
    """Return the reading of each given name; of several, the one that has the most spellings."""
    found: dict[str, tuple[int, str]] = {}
    for file in _GIVEN_FILES.values():
        for reading, *spellings in rows(file):
            for spelling in spellings:
                found[spelling] = max(found.get(spelling, (0, "")), (len(spellings), reading))
    return {fold_names(spelling): reading for spelling, (_, reading) in found.items()}


@lru_cache(maxsize=2)
def _from_romaji(family: bool) -> Mapping[str, str]:
    """Return the reading of each spelling in Latin letters; of several, that of the more common name."""
    readings: Iterable[str]
    if family:
        readings = (reading for _, reading in surname_rows())
    else:
        counts = Counter[str]()
        for file in _GIVEN_FILES.values():
            counts.update({reading: len(spellings) for reading, *spellings in rows(file)})
        readings = (reading for reading, _ in counts.most_common())
    found: dict[str, str] = {}
    for reading in readings:
        for spelling in romaji_spellings(reading):
            found.setdefault(spelling, reading)
    return found


def replace_name(text: str, keyed: Keyed, aliases: Aliases = MappingProxyType({}), *, relative: bool = False) -> str:
    """Return another name in the form of `text`: with its spaces, in its script, and of its sex where that is known.

    Args:
        text: the name.
        keyed: the key.
        aliases: names that a document gives as readings, and the names in kanji that they are of; see `aliases_of`.
        relative: whether a name that is no listed surname is a given name.
    """
    if len(parts := _by_script(text)) > 1:
        return "".join(replace_name(part, keyed, aliases) if any(map(str.isalpha, part)) else part for part in parts)
    folded = _folded(text)
    if re.search(r"[A-Za-z]", folded):
        return _as_wide(_latin(folded, keyed), text)
    gap = _GAP.search(text)
    family, given = split_name(folded, lexicon())
    if relative and not given and family not in lexicon().surnames:
        family, given = "", family
    new = []
    if family:
        new.append(_in_script(_other_family(aliases.get(family, family), keyed), family, text))
    if given:
        new.append(_in_script(_other_given(aliases.get(given, given), keyed), given, text))
    return (gap[0] if gap else "").join(new)


def _by_script(text: str) -> list[str]:
    """Return the parts of a name in Latin letters and in Japanese ones: "Ns ", 佐藤. One part if it has one script."""
    parts = [part for part in _LATIN_PART.split(text) if part]
    return parts if any(char.isalpha() for part in parts if not _LATIN_PART.match(part) for char in part) else [text]


def aliases_of(kanji: str, kana: str) -> dict[str, str]:
    """Return the surname and the given name in kana of a person whose name in kanji is known, and those in kanji."""
    names = lexicon()
    family, given = split_name(_folded(kanji), names)
    reading = _folded(kana)
    usual = _family_readings().get(family, "")
    if not _GAP.search(reading) and usual and hiragana(reading).startswith(usual) and given:
        read_family, read_given = reading[: len(usual)], reading[len(usual) :]
    else:
        read_family, read_given = split_name(reading, names)
    pairs = ((read_family, family), (read_given, given))
    return {one: other for one, other in pairs if one and other}


def split_name(folded: str, names: Lexicon) -> tuple[str, str]:
    """Return the surname and the given name of a name; "" for what it lacks."""
    parts = _GAP.split(folded.strip())
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


def _other_family(name: str, keyed: Keyed) -> ListedName:
    reading = hiragana(name) if _KANA.fullmatch(name) else _family_readings().get(name, name)
    return _other("family", name, reading, keyed)


def _other_given(name: str, keyed: Keyed) -> ListedName:
    reading = hiragana(name) if _KANA.fullmatch(name) else reading_of(name) or _given_readings().get(name, name)
    return _other(sex_of(name, reading), name, reading, keyed)


def sex_of(name: str, reading: str) -> Sex:
    """Return the sex that a given name is of; "either" if the lists have it for both, or not at all."""
    for key in (name, reading):
        male, female = key in _listed("m"), key in _listed("f")
        if male != female:
            return "m" if male else "f"
    male, female = bool(_MALE_END.search(name)), bool(_FEMALE_END.search(name))
    return "either" if male == female else "m" if male else "f"


def _pool(kind: str) -> Sequence[ListedName]:
    """Return the surnames, or the given names of a sex."""
    return _families() if kind == "family" else _given(cast(Sex, kind))


def _other(kind: str, name: str, reading: str, keyed: Keyed) -> ListedName:
    """Return the surrogate of a name.

    The key puts the pool into a circle, where each name has the next one as its surrogate: no two of them share one,
    and none keeps its own. A name that is not in the pool has a place by its hash.
    """
    pool = _pool(kind)
    order, place = _circle(keyed, kind, len(pool))
    at = _places(kind).get(reading)
    at = keyed.number(kind, reading, len(pool)) if at is None else place[at]
    for step in range(1, len(pool)):
        found = pool[order[(at + step) % len(pool)]]
        if name not in (found.spelling, found.reading):
            return found
    raise AssertionError("a pool has more than two names")


@lru_cache(maxsize=4)
def _places(kind: str) -> Mapping[str, int]:
    return {name.reading: at for at, name in enumerate(_pool(kind))}


@lru_cache(maxsize=32)
def _circle(keyed: Keyed, kind: str, size: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return a secret order of numbers below `size`, and the place of each in it."""
    seed = hmac.digest(keyed.key, f"circle\0{kind}\0{keyed.patient}".encode(), hashlib.sha256)
    drawn = struct.unpack(f"<{size}Q", hashlib.shake_256(seed).digest(8 * size))
    order = sorted(range(size), key=drawn.__getitem__)
    place = [0] * size
    for at, number in enumerate(order):
        place[number] = at
    return order, place


def _folded(text: str) -> str:
    return fold_names(unicodedata.normalize("NFKC", text))


def hiragana(text: str) -> str:
    """Return katakana as hiragana."""
    return "".join(chr(ord(char) - 0x60) if "ァ" <= char <= "ヶ" else char for char in text)


def _in_script(name: ListedName, part: str, original: str) -> str:
    """Return a name in the script of the part of a name that it replaces."""
    if not _KANA.fullmatch(part):
        return name.spelling
    if any("ｦ" <= char <= "ﾟ" for char in original):
        return "".join(_HALF.get(char, char) for char in to_katakana(name.reading))
    return to_katakana(name.reading) if re.search(r"[ァ-ヺ]", part) else name.reading


def _latin(text: str, keyed: Keyed) -> str:
    """Return another name in Latin letters. Initials stay initials, and capitals capitals."""
    words = [match[0] for match in re.finditer(r"[A-Za-z]+(?:['-][A-Za-z]+)*", text)]
    names = [word.lower() for word in words if len(word) > 1 and word.rstrip(".") not in ENGLISH_TITLES]
    families, givens = _from_romaji(True), _from_romaji(False)
    is_japanese = any(name in families or name in givens for name in names) and not any(
        is_english(name) and name not in givens for name in names
    )
    # 佐藤花子 may be Sato Hanako or Hanako Sato.
    swapped = len(names) == 2 and names[1] in families and not (names[0] in families and names[1] in givens)

    def other(match: "re.Match[str]") -> str:
        word = match[0]
        lower = word.lower()
        if word.rstrip(".") in ENGLISH_TITLES:
            return word
        if len(word) == 1:
            new = keyed.choose("initial", lower, "abcdefghjklmnprstw")
        elif is_japanese:
            first = names.index(lower) == 0
            is_family = (first != swapped) if len(names) > 1 else lower in families
            reading = (families if is_family else givens).get(lower, lower)
            drawn = _other_family(reading, keyed) if is_family else _other_given(reading, keyed)
            new = to_romaji(drawn.reading).replace("ou", "o").replace("oo", "o").replace("uu", "u")
        else:
            new = other_english(lower, keyed)
        return new.upper() if word.isupper() else new.title() if word[0].isupper() else new

    return re.sub(r"[A-Za-z]+(?:['-][A-Za-z]+)*", other, text)


def _as_wide(new: str, original: str) -> str:
    """Return a name with full-width letters and its own gap where the original has them."""
    if any("Ａ" <= char <= "ｚ" for char in original):
        new = "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in new)
    gaps = iter(re.findall(r"\s", original))
    return re.sub(r"\s", lambda match: next(gaps, match[0]), new)
