"""Replaces identifiers: by typed tags, or by surrogates that keep the text grammatical and useful."""

import datetime as dt
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from jmedllm.corpus.deidentify.addresses import PREFECTURE, prefecture_of
from jmedllm.corpus.deidentify.fold import fold
from jmedllm.corpus.deidentify.forms import is_mynumber
from jmedllm.corpus.deidentify.keyed import Keyed
from jmedllm.corpus.deidentify.spans import Label, Span
from jmedllm.corpus.deidentify.surrogate_dates import has_year, move_date
from jmedllm.corpus.deidentify.surrogate_names import aliases_of, replace_name

_WEEKS = range(5, 52)
"""Dates move by so many whole weeks, back or forth: the day of the week stays, and every month becomes another."""

_DRAWS = 20
"""Draws of a surrogate until one is not the original."""

_KEPT = ("ADDRESS", "LOCATION", "AGE90")
"""What may be its own surrogate: a prefecture, and 90歳以上."""

_KANJI_DIGITS = "〇一二三四五六七八九"

_BESIDE = 12
"""Characters between a name and its reading."""

_BETWEEN = re.compile(r"(?:[\W_]|フリガナ|ふりがな|カナ|氏名|漢字|患者|さん|様|氏|殿|君|くん|ちゃん)*")
_KANA = re.compile(r"[ぁ-ゖァ-ヺーｦ-ﾟ\s・･]+")
_RELATIVE = re.compile(
    r"(?:夫|妻|父|母|[長次二三四五]男|[長次二三四五]女|娘|息子|兄|弟|姉|妹|孫|嫁|婿|祖父|祖母|叔父|叔母|伯父|伯母)[のは・、:：\s（(]?$"
)
_BIRTH = re.compile(r"(?:生年月日|誕生日|生まれ|DOB|born|Birth)\D{0,6}$", re.IGNORECASE)
_PROVIDER_END = re.compile(
    r"(?:特別養護老人ホーム|介護老人保健施設|グループホーム|(?:訪問看護|ケア|ヘルパー)ステーション"
    r"|デイサービス(?:センター)?|老人ホーム|大学病院|大学医学部附属病院|総合病院|医療センター|クリニック"
    r"|診療所|医院|病院|薬局|保健所|センター"
    r"|(?:整形外|脳神経外|心臓血管外|耳鼻咽喉|泌尿器|心療内|産婦人|皮膚|小児|循環器|消化器|呼吸器|精神|眼|歯|内|外)科)"
)
_PHONE_PREFIX = re.compile(r"\+81[- ]?|\(?0(?:[5789]0)?")
_COMPANY_END = re.compile(
    r"(?:小学校|中学校|高等学校|高校|大学|幼稚園|保育園|こども園|専門学校|銀行|市役所|区役所|警察署|消防署|郵便局)"
)
_WARD_END = re.compile(r"(?:病棟|病室|号室|センター|室|棟|階)$")
_STATE = re.compile(r"\b([A-Z]{2})\b(?=,?\s*\d{5}|\s*$)")


def mask(text: str, spans: Sequence[Span]) -> str:
    """Return the text with a tag such as [NAME] in place of each identifier."""
    return spliced(text, spans, masks(spans))


def masks(spans: Sequence[Span]) -> list[str]:
    """Return the tag of each identifier."""
    return [f"[{span.label}]" for span in spans]


def surrogate(text: str, spans: Sequence[Span], keyed: Keyed) -> str:
    """Return the text with a surrogate in place of each identifier; see `surrogates`."""
    return spliced(text, spans, surrogates(text, spans, keyed))


@dataclass(frozen=True, slots=True)
class _Document:
    """What the surrogates of a document share.

    Attributes:
        keyed: the key, for the patient whom the text is about.
        aliases: names in kana, and the names in kanji that they are the readings of.
        relatives: names beside a relation, such as 夫, which are given names if no list has them as surnames.
        letters: the letter of each hospital, company and station, by kind and name.
    """

    keyed: Keyed
    aliases: Mapping[str, str]
    relatives: frozenset[str]
    letters: Mapping[tuple[str, str], str]


def surrogates(text: str, spans: Sequence[Span], keyed: Keyed) -> list[str]:
    """Return the surrogate of each identifier of a text. None is the same as what it replaces, but a prefecture.

    Args:
        text: the text.
        spans: disjoint spans in order.
        keyed: the key, for the patient whom the text is about.
    """
    document = _Document(keyed, _aliases(text, spans), _relatives(text, spans), _letters(text, spans, keyed))
    dates = iter(_dates(text, spans, days_of(keyed)))
    pieces = []
    for span in spans:
        original = text[span.start : span.end]
        draw = _SURROGATES.get(span.label)
        pieces.append(_another(draw, original, span.label, document) if draw else next(dates))
    return pieces


def days_of(keyed: Keyed) -> int:
    """Return the days by which the dates of a patient move: whole weeks, and never none."""
    drawn = keyed.number("weeks", "", 2 * len(_WEEKS))
    return 7 * _WEEKS[drawn // 2] * (1 if drawn % 2 else -1)


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


def _another(draw: "Callable[[str, _Document], str]", original: str, label: Label, document: _Document) -> str:
    """Return the first draw that is not the original; a tag if all are the same, as of a sign in place of a name."""
    for attempt in range(_DRAWS):
        keyed = document.keyed if not attempt else Keyed(document.keyed.key, f"{document.keyed.patient}\0{attempt}")
        new = draw(original, replace(document, keyed=keyed))
        if new != original or label in _KEPT:
            return new
    return f"[{label}]"


def _dates(text: str, spans: Sequence[Span], days: int) -> list[str]:
    """Return the dates in their new places.

    A date without a year takes that of the date with a year before it, other than a birth; of the latest one if there
    is none before.
    """
    dates = [span for span in spans if span.label == "DATE"]
    originals = [text[span.start : span.end] for span in dates]
    years = [
        found.date
        if has_year(original)
        and (found := move_date(original, 0))
        and not _BIRTH.search(text, max(0, span.start - 12), span.start)
        else None
        for span, original in zip(dates, originals, strict=True)
    ]
    near: dt.date | None = max(filter(None, years), default=None)
    moved = []
    for original, year in zip(originals, years, strict=True):
        near = year or near
        new = move_date(original, days, near)
        moved.append(new.text if new else "[DATE]")
    return moved


def _aliases(text: str, spans: Sequence[Span]) -> dict[str, str]:
    """Return the readings beside full names: 佐藤花子（さとう はなこ）, フリガナ：サトウ ハナコ."""
    names = [(text[span.start : span.end], span) for span in spans if span.label == "NAME"]
    found: dict[str, str] = {}
    for (one, first), (other, second) in pairwise(names):
        if second.start - first.end > _BESIDE or not _BETWEEN.fullmatch(text, first.end, second.start):
            continue
        kana = [bool(_KANA.fullmatch(each)) for each in (one, other)]
        if kana[0] != kana[1]:
            found = aliases_of(*((other, one) if kana[0] else (one, other))) | found
    return found


def _relatives(text: str, spans: Sequence[Span]) -> frozenset[str]:
    return frozenset(
        text[span.start : span.end]
        for span in spans
        if span.label == "NAME" and _RELATIVE.search(text, max(0, span.start - 6), span.start)
    )


def _letters(text: str, spans: Sequence[Span], keyed: Keyed) -> dict[tuple[str, str], str]:
    """Return a letter for each hospital, company and station: one that no other of its kind in the document has."""
    found: dict[tuple[str, str], str] = {}
    for span in spans:
        key = (span.label, _named(text[span.start : span.end]))
        if span.label not in ("HOSPITAL", "ORG", "LOCATION", "WARD") or key in found:
            continue
        at = keyed.number(*key, 26)
        taken = {letter for (kind, _), letter in found.items() if kind == span.label} | {key[1][:1]}
        letters = [string.ascii_uppercase[(at + step) % 26] for step in range(26)]
        found[key] = next((each for each in letters if each not in taken), letters[0] + letters[1])
    return found


def _named(original: str) -> str:
    return re.sub(r"\s", "", fold(original))


def _letter(original: str, label: Label, document: _Document) -> str:
    key = (label, _named(original))
    return document.letters.get(key) or string.ascii_uppercase[document.keyed.number(*key, 26)]


def _name(original: str, document: _Document) -> str:
    return replace_name(original, document.keyed, document.aliases, relative=original in document.relatives)


def _age(original: str, document: _Document) -> str:
    """Return 90歳以上, or an English age with 90+ in place of its number."""
    return re.sub(r"\d+", "90+", fold(original)) if re.search("[a-z]", original) else "90歳以上"


def _digits(original: str, document: _Document, keep: int = 0) -> str:
    """Return other digits and letters in the same form."""
    found, value = [], fold(original)
    for at, char in enumerate(original):
        plain = value[at]
        if plain.isdecimal() and at >= keep:
            new = str(document.keyed.number(f"digit{at}", value, 10))
            found.append(new if char == plain else chr(ord(new) + 0xFEE0))
        elif plain in _KANJI_DIGITS and at >= keep:
            found.append(_KANJI_DIGITS[document.keyed.number(f"digit{at}", value, 10)])
        elif plain.isascii() and plain.isalpha() and at >= keep:
            new = string.ascii_uppercase[document.keyed.number(f"letter{at}", value, 26)]
            new = new if plain.isupper() else new.lower()
            found.append(new if char == plain else chr(ord(new) + 0xFEE0))
        else:
            found.append(char)
    return "".join(found)


def _phone(original: str, document: _Document) -> str:
    kept = _PHONE_PREFIX.match(fold(original))
    return _digits(original, document, kept.end() if kept else 0)


def _number(original: str, document: _Document) -> str:
    """Return other digits; never a valid 個人番号, which might be somebody's."""
    new = _digits(original, document)
    digits = re.sub(r"\D", "", fold(new))
    if len(digits) == 12 and is_mynumber(digits):
        last = max(at for at, char in enumerate(new) if char.isdigit())
        other = (int(fold(new[last])) + 1) % 10
        new = new[:last] + (str(other) if new[last].isascii() else chr(ord(str(other)) + 0xFEE0)) + new[last + 1 :]
    return new


def _ward(original: str, document: _Document) -> str:
    """Return other digits, or a letter and the kind for a ward without any: A病棟."""
    if re.search(r"\d", fold(original)):
        return _digits(original, document)
    ending = _WARD_END.search(original)
    return _letter(original, "WARD", document) + (ending[0] if ending else "病棟")


def _place(original: str, document: _Document) -> str:
    """Return the prefecture of an address or a place; of an American one the state."""
    folded = fold(original)
    if station := re.search(r"駅(?:前|近く|付近)?$", folded):
        return _letter(original, "LOCATION", document) + station[0]
    named = PREFECTURE.match(folded)
    found = named[0] if named else prefecture_of(folded)
    if found:
        return found
    if re.search(r"[A-Za-z]", folded):
        state = _STATE.search(folded)
        return state[1] if state and state[1] != folded else "Anytown"
    return "某所"


def _hospital(original: str, document: _Document) -> str:
    folded = fold(original)
    endings = _PROVIDER_END.findall(folded)
    letter = _letter(original, "HOSPITAL", document)
    if re.search(r"[A-Za-z]{3}", folded) and not endings:
        kind = re.search(r"(?i:clinic|(?:medical )?cent(?:er|re)|institute|pharmacy|nursing home)", folded)
        return f"{kind[0].title() if kind else 'Hospital'} {letter}"
    return letter + (endings[-1] if endings else "医院")


def _company(original: str, document: _Document) -> str:
    endings = _COMPANY_END.findall(fold(original))
    letter = _letter(original, "ORG", document)
    if re.search(r"[A-Za-z]{3}", fold(original)) and not endings:
        return f"Company {letter}"
    return letter + (endings[-1] if endings else "社")


def _email(original: str, document: _Document) -> str:
    return f"user{document.keyed.number('email', fold(original), 10**6)}@example.com"


def _url(original: str, document: _Document) -> str:
    return f"https://example.com/{document.keyed.number('url', fold(original), 10**6)}"


_SURROGATES: dict[Label, Callable[[str, _Document], str]] = {
    "NAME": _name,
    "AGE90": _age,
    "PHONE": _phone,
    "FAX": _phone,
    "POSTAL": _digits,
    "ADDRESS": _place,
    "LOCATION": _place,
    "HOSPITAL": _hospital,
    "WARD": _ward,
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
