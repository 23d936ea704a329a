"""Replaces identifiers: by typed tags, or by surrogates that keep the text grammatical and useful."""

import datetime as dt
import re
import string
from collections.abc import Callable, Sequence
from itertools import pairwise

from jmedllm.corpus.deidentify.addresses import PREFECTURE, prefecture_of
from jmedllm.corpus.deidentify.fold import fold
from jmedllm.corpus.deidentify.forms import is_mynumber
from jmedllm.corpus.deidentify.keyed import Keyed
from jmedllm.corpus.deidentify.spans import Label, Span
from jmedllm.corpus.deidentify.surrogate_dates import move_date
from jmedllm.corpus.deidentify.surrogate_names import given_readings, replace_name

_WEEKS = 51
"""Dates move by 1 to 51 whole weeks, back or forth: the day of the week stays."""

_BESIDE = 12
"""Characters between a name and its reading."""

_PROVIDER_END = re.compile(
    r"(?:特別養護老人ホーム|介護老人保健施設|グループホーム|(?:訪問看護|ケア|ヘルパー)ステーション"
    r"|デイサービス(?:センター)?|老人ホーム|大学病院|大学医学部附属病院|総合病院|医療センター|クリニック"
    r"|診療所|医院"
    r"|病院|薬局|歯科|保健所|センター)"
)
_PHONE_PREFIX = re.compile(r"\+81[- ]?|\(?0(?:[5789]0)?")
_COMPANY_END = re.compile(
    r"(?:小学校|中学校|高等学校|高校|大学|幼稚園|保育園|こども園|専門学校|銀行|市役所|区役所|警察署|消防署|郵便局)"
)


def mask(text: str, spans: Sequence[Span]) -> str:
    """Return the text with a tag such as [NAME] in place of each identifier."""
    return spliced(text, spans, masks(spans))


def masks(spans: Sequence[Span]) -> list[str]:
    """Return the tag of each identifier."""
    return [f"[{span.label}]" for span in spans]


def surrogate(text: str, spans: Sequence[Span], keyed: Keyed) -> str:
    """Return the text with a surrogate in place of each identifier; see `surrogates`."""
    return spliced(text, spans, surrogates(text, spans, keyed))


def surrogates(text: str, spans: Sequence[Span], keyed: Keyed) -> list[str]:
    """Return the surrogate of each identifier of a text.

    Args:
        text: the text.
        spans: disjoint spans in order.
        keyed: the key, for the patient whom the text is about.
    """
    days = days_of(keyed)
    near: dt.date | None = None
    for span in spans:  # the first date with a year, as the anchor of those without
        moved = move_date(text[span.start : span.end], 0) if span.label == "DATE" else None
        if moved and re.search(r"\d{4}|[年元]|[RHSTM]\d", fold(text[span.start : span.end])):
            near = moved.date
            break
    readings = _readings(text, spans)
    pieces = []
    for span in spans:
        original = text[span.start : span.end]
        if span.label == "DATE":
            moved = move_date(original, days, near)
            pieces.append(moved.text if moved else "[DATE]")
        elif span.label == "NAME":
            pieces.append(replace_name(original, keyed, readings))
        else:
            pieces.append(_SURROGATES[span.label](original, keyed))
    return pieces


def _readings(text: str, spans: Sequence[Span]) -> dict[str, str]:
    """Return the readings beside full names: 佐藤花子（さとう はなこ）, フリガナ：サトウ ハナコ."""
    names = [(text[span.start : span.end], span) for span in spans if span.label == "NAME"]
    found: dict[str, str] = {}
    for (one, first), (other, second) in pairwise(names):
        if second.start - first.end > _BESIDE or not re.fullmatch(
            r"[\W\sフリガナふりがなカナ氏名漢字患者:：()（）]*", text[first.end : second.start]
        ):
            continue
        kana = [bool(re.fullmatch(r"[ぁ-ゖァ-ヺーｦ-ﾟ\s]+", each)) for each in (one, other)]
        if kana[0] != kana[1]:
            kanji, reading = (other, one) if kana[0] else (one, other)
            found |= given_readings(kanji, reading)
    return found


def days_of(keyed: Keyed) -> int:
    """Return the days by which the dates of a patient move: whole weeks, and never none."""
    weeks = keyed.number("weeks", "", 2 * _WEEKS) - _WEEKS
    return 7 * (weeks if weeks < 0 else weeks + 1)


def spliced(text: str, spans: Sequence[Span], pieces: Sequence[str], start: int = 0, end: int | None = None) -> str:
    """Return a text, or its characters `start` to `end`, with pieces in place of spans.

    A span that goes beyond `start` or `end` is replaced on both sides.
    """
    end = len(text) if end is None else end
    parts, at = [], start
    for span, piece in zip(spans, pieces, strict=True):
        if span.end > start and span.start < end:
            parts += [text[at : max(at, span.start)], piece]
            at = span.end
    return "".join((*parts, text[at:end]))


def _age(original: str, keyed: Keyed) -> str:
    return "over 90 years old" if re.search("[a-z]", original) else "90歳以上"


def _digits(original: str, keyed: Keyed, keep: int = 0) -> str:
    """Return other digits and letters in the same form."""
    found, value = [], fold(original)
    for at, char in enumerate(original):
        plain = value[at]
        if plain.isdigit() and plain.isascii() and at >= keep:
            new = str(keyed.number(f"digit{at}", value, 10))
            found.append(new if char == plain else chr(ord(new) + 0xFEE0))
        elif plain.isascii() and plain.isalpha() and at >= keep:
            new = string.ascii_uppercase[keyed.number(f"letter{at}", value, 26)]
            new = new if plain.isupper() else new.lower()
            found.append(new if char == plain else chr(ord(new) + 0xFEE0))
        else:
            found.append(char)
    return "".join(found)


def _phone(original: str, keyed: Keyed) -> str:
    kept = _PHONE_PREFIX.match(fold(original))
    return _digits(original, keyed, kept.end() if kept else 0)


def _number(original: str, keyed: Keyed) -> str:
    """Return other digits; never a valid 個人番号, which might be somebody's."""
    new = _digits(original, keyed)
    digits = re.sub(r"\D", "", fold(new))
    if len(digits) == 12 and is_mynumber(digits):
        last = max(at for at, char in enumerate(new) if char.isdigit())
        other = (int(fold(new[last])) + 1) % 10
        new = new[:last] + (str(other) if new[last].isascii() else chr(ord(str(other)) + 0xFEE0)) + new[last + 1 :]
    return new


def _place(original: str, keyed: Keyed) -> str:
    """Return the prefecture of an address or a place."""
    folded = fold(original)
    if re.fullmatch(r".*駅", folded):
        return _letter(keyed, "station", folded) + "駅"
    named = PREFECTURE.match(folded)
    found = named[0] if named else prefecture_of(folded)
    if found:
        return found
    return "[ADDRESS]" if re.search(r"[A-Za-z]", folded) else "某所"


def _hospital(original: str, keyed: Keyed) -> str:
    folded = fold(original)
    endings = _PROVIDER_END.findall(folded)
    letter = _letter(keyed, "hospital", folded)
    if re.search(r"[A-Za-z]{3}", folded) and not endings:
        return f"Hospital {letter}"
    return letter + (endings[-1] if endings else "医院")


def _company(original: str, keyed: Keyed) -> str:
    folded = fold(original)
    endings = _COMPANY_END.findall(folded)
    return _letter(keyed, "company", folded) + (endings[-1] if endings else "社")


def _letter(keyed: Keyed, kind: str, value: str) -> str:
    return string.ascii_uppercase[keyed.number(kind, re.sub(r"\s", "", value), 26)]


def _email(original: str, keyed: Keyed) -> str:
    return f"user{keyed.number('email', fold(original), 10**6)}@example.com"


def _url(original: str, keyed: Keyed) -> str:
    return f"https://example.com/{keyed.number('url', fold(original), 10**6)}"


_SURROGATES: dict[Label, Callable[[str, Keyed], str]] = {
    "NAME": replace_name,
    "AGE90": _age,
    "PHONE": _phone,
    "FAX": _phone,
    "POSTAL": _digits,
    "ADDRESS": _place,
    "LOCATION": _place,
    "HOSPITAL": _hospital,
    "WARD": _digits,
    "ORG": _company,
    "EMAIL": _email,
    "URL": _url,
    "PATIENT_ID": _number,
    "INSURANCE_ID": _number,
    "MYNUMBER": _number,
    "LICENSE_ID": _number,
    "ACCOUNT_ID": _number,
    "DEVICE_ID": _number,
}
"""How each kind is replaced; dates are moved together, since those without a year need one that has it."""
