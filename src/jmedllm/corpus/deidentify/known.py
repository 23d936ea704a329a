"""Lists of known people: their names and numbers in all usual spellings. They are read, and never stored or logged."""

import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmedllm.corpus.deidentify.eponyms import eponyms, is_term
from jmedllm.corpus.deidentify.fold import fold_names
from jmedllm.corpus.deidentify.lexicon import Lexicon, romaji_spellings, to_katakana
from jmedllm.corpus.deidentify.names import HAN, TITLE
from jmedllm.corpus.deidentify.spans import Label, Span
from jmedllm.errors import InputError

COLUMNS: dict[str, Label] = {
    "name": "NAME",
    "surname": "NAME",
    "given_name": "NAME",
    "kana": "NAME",
    "romaji": "NAME",
    "id": "PATIENT_ID",
    "phone": "PHONE",
    "address": "ADDRESS",
    "email": "EMAIL",
    "birth_date": "DATE",
}
"""What a column may be, and the kind of identifier that it is."""

_JAPANESE_COLUMNS = {
    "氏名": "name", "患者氏名": "name", "姓名": "name", "名前": "name", "姓": "surname", "名": "given_name",
    "カナ": "kana", "カナ氏名": "kana", "フリガナ": "kana",
    "ふりがな": "kana", "氏名カナ": "kana", "ローマ字": "romaji", "患者ID": "id", "患者番号": "id", "ID": "id",
    "職員番号": "id", "電話": "phone", "電話番号": "phone",
    "住所": "address", "メール": "email", "生年月日": "birth_date",
}  # fmt: skip
_TITLE = re.compile(rf"\s?{TITLE}")
_LONGEST_SURNAME = 3
"""A known name of at most so many characters may be a surname alone."""

_HAN = re.compile(HAN)
_LETTER = re.compile(r"\w")


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Spellings of known identifiers.

    Attributes:
        full: spellings that identify at any place, with their kind.
        families: surnames, and given names, which need a title or the edges of words.
    """

    full: dict[str, Label]
    families: frozenset[str]

    def __repr__(self) -> str:
        """Return the counts only: what is in here is never to be printed."""
        return f"Known({len(self.full)} spellings, {len(self.families)} parts of names)"


def read_known(paths: Iterable[Path], columns: dict[str, str], names: Lexicon) -> Known:
    """Read CSV files with a header.

    Args:
        paths: the files, in UTF-8 or Windows' Japanese encoding.
        columns: what further columns are: their header, and a key of `COLUMNS`.

    Raises:
        InputError: a file cannot be read, or no column of it is known.
    """
    full: dict[str, Label] = {}
    families: set[str] = set()
    headers = _JAPANESE_COLUMNS | {key: key for key in COLUMNS} | columns
    for path in paths:
        rows = _rows(path)
        used = {header: headers[header] for header in (rows[0] if rows else {}) if header in headers}
        if not used:
            found = ", ".join(rows[0]) if rows else "none"
            raise InputError(
                f"{path}: no column is known (found: {found}); name one, such as --known-column HEADER=name"
            )
        for row in rows:
            values = {key: row[header].strip() for header, key in used.items() if row[header] and row[header].strip()}
            _add(values, full, families, names)
    squeezed = {_squeeze(fold_names(spelling))[0]: label for spelling, label in full.items()}
    return Known({key: label for key, label in squeezed.items() if len(_LETTER.findall(key)) > 1}, frozenset(families))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"--known {path}: cannot be read: {error.strerror}") from error
    for encoding in ("utf-8-sig", "cp932"):
        try:
            return list(csv.DictReader(data.decode(encoding).splitlines()))
        except UnicodeDecodeError:
            continue
    raise InputError(f"--known {path}: neither UTF-8 nor Windows' Japanese encoding (CP932); save it as UTF-8")


def _add(values: dict[str, str], full: dict[str, Label], families: set[str], names: Lexicon) -> None:
    family, given = _parts(values, names)
    kana_family, _, kana_given = _spaced(values.get("kana", "")).partition(" ")
    if family and given:
        full[family + given] = "NAME"
    elif "name" in values:
        name = _spaced(values["name"]).replace(" ", "")
        if len(name) > _LONGEST_SURNAME:
            full[name] = "NAME"
        else:
            families.add(name)
    families.update(each for each in (family, given) if each)
    if kana_family and kana_given:
        for convert in (to_katakana, _to_hiragana):
            full[convert(kana_family) + convert(kana_given)] = "NAME"
            families.update((convert(kana_family), convert(kana_given)))
        for one in romaji_spellings(_to_hiragana(kana_family)):
            for other in romaji_spellings(_to_hiragana(kana_given)):
                full[f"{one}{other}"] = full[f"{other}{one}"] = "NAME"
    for key, label in COLUMNS.items():
        if (key in values and label != "NAME") or (key == "romaji" and key in values):
            full[fold_names(values[key]).replace(" ", "").lower()] = label


def _parts(values: dict[str, str], names: Lexicon) -> tuple[str, str]:
    if "surname" in values:
        return _spaced(values["surname"]), _spaced(values.get("given_name", ""))
    name = _spaced(values.get("name", ""))
    if " " in name:
        family, _, given = name.partition(" ")
        return family, given
    size = names.longest(name, 0, names.surnames)
    return (name[:size], name[size:]) if size and size < len(name) else ("", "")


def _spaced(text: str) -> str:
    """Return a name with folded forms and single spaces."""
    return " ".join(fold_names(unicodedata.normalize("NFKC", text)).split())


def _to_hiragana(text: str) -> str:
    return "".join(chr(ord(char) - 0x60) if "ァ" <= char <= "ヶ" else char for char in text)


def find_known(folded: str, edges: frozenset[int], known: Known) -> Iterator[Span]:
    """Yield known people and numbers in a folded text, also those written with spaces or in half-width kana.

    Args:
        folded: the text.
        edges: where words begin and end.
        known: the lists.
    """
    terms = eponyms(folded)
    squeezed, places = _squeeze(folded)
    for start, end, label in _matches(squeezed, known.full, _lengths(known.full)):
        span = Span(places[start], places[end - 1] + 1, label, "certain", "known")
        if _is_whole(folded, span) and not (label == "NAME" and is_term(folded, span.start, span.end, terms)):
            yield span
    for start, end, _ in _matches(squeezed, dict.fromkeys(known.families, "NAME"), _lengths(known.families)):
        first, last = places[start], places[end - 1] + 1
        titled = bool(_TITLE.match(folded, last))
        if is_term(folded, first, last, terms) or folded[last : last + 1] in ("市", "区", "町", "村", "県", "駅"):
            continue
        # Kana alone is too often the name of a drug or a maker: 「ヨシダ」.
        is_kanji = bool(_HAN.match(folded, first))
        if titled or (is_kanji and end - start > 1 and first in edges and last in edges):
            yield Span(first, last, "NAME", "certain", "known:part")


def _squeeze(folded: str) -> tuple[str, list[int]]:
    """Return the text without spaces, in lower case and full-width kana, and the place of each character."""
    chars: list[str] = []
    places: list[int] = []
    for at, char in enumerate(folded):
        if char.isspace() or char in ",・-":
            continue
        if char in "ﾞﾟ" and chars:
            chars[-1] = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", chars[-1] + char))
            continue
        chars.append(unicodedata.normalize("NFKC", char)[0].lower() if "ｦ" <= char <= "ﾝ" or char.isascii() else char)
        places.append(at)
    return "".join(chars), places


def _lengths(spellings: Iterable[str]) -> tuple[int, ...]:
    return tuple(sorted({len(each) for each in spellings}, reverse=True))


def _matches(text: str, spellings: dict[str, Label], lengths: Sequence[int]) -> Iterator[tuple[int, int, Label]]:
    """Yield the longest spelling at each place, by look-ups: the time does not depend on the number of people."""
    at = 0
    while at < len(text):
        size = next((n for n in lengths if text[at : at + n] in spellings and at + n <= len(text)), 0)
        if size:
            yield at, at + size, spellings[text[at : at + size]]
        at += size or 1


def _is_whole(folded: str, span: Span) -> bool:
    """Return whether a spelling in Latin letters or digits is a whole word, since squeezing joins words."""
    before, after = folded[span.start - 1 : span.start] if span.start else "", folded[span.end : span.end + 1]
    first, last = folded[span.start], folded[span.end - 1]
    return not (before.isascii() and before.isalnum() and first.isascii()) and not (
        after.isascii() and after.isalnum() and last.isascii()
    )
