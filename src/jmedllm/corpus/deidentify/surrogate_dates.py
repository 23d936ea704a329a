"""Moves dates by a number of days, and writes each in its own form: 令和元年五月一日, R1.5.1, 5/1, May 1st, 2019."""

import datetime as dt
import re
from dataclasses import dataclass

from jmedllm.corpus.deidentify.dates import MONTHS
from jmedllm.corpus.deidentify.fold import fold

_KANJI = "〇一二三四五六七八九"
_ERAS = (
    ("令和", "R", "㋿", dt.date(2019, 5, 1)),
    ("平成", "H", "㍻", dt.date(1989, 1, 8)),
    ("昭和", "S", "㍼", dt.date(1926, 12, 25)),
    ("大正", "T", "㍽", dt.date(1912, 7, 30)),
    ("明治", "M", "㍾", dt.date(1868, 1, 25)),
)
_FIRST_YEAR = {mark: start.year for name, letter, square, start in _ERAS for mark in (name, name[0], letter, square)}
_WEEKDAYS = "月火水木金土日"
_N = r"(?:\d{1,2}|元|[〇零一二三四五六七八九十]{1,3})"
_YEAR = (
    rf"(?:(?P<era>令和|平成|昭和|大正|明治|[㋿㍻㍼㍽㍾]|[令平昭大明](?=\s?[\d元])|[RHSTM](?=\.?\s?[\d元]))(?P<dot>\.?\s?)(?P<eyear>{_N})"
    rf"|(?P<year>\d{{4}}|[一二][〇零一二三四五六七八九]{{3}})|(?P<short>'?\d\d(?=[./-])))"
)
_DATE = re.compile(
    rf"(?P<head>西暦)?(?:{_YEAR}(?P<s1>\s?年\s?|\s?[./・-]\s?))?(?P<month>{_N})(?:(?P<s2>\s?月\s?"
    rf"|\s?[./・-]\s?)(?P<day>{_N})?)?(?P<tail>\s?日)?(?P<third>旬|上旬|中旬|下旬|頃|初め|末)?"
    r"(?P<week>\s?[(（]\s?[月火水木金土日].*)?"
)
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})")
_ENGLISH = re.compile(
    r"(?P<day1>\d{1,2})?(?P<ord1>st|nd|rd"
    r"|th)?(?P<s0>[\s/-]?(?:of\s)?)(?P<month>[A-Z][a-z]{2,8})(?P<dot>\.?)(?P<s1>,?\s?)(?:(?P<day2>\d{1,2})(?P<ord2>st"
    r"|nd|rd|th)?(?!\d))?(?P<s2>,?[\s/-]?)(?P<year>\d{4}|'\d\d)?"
)
_US = re.compile(r"(\d{1,2})([/-])(\d{1,2})\2(\d{4}|\d\d)")


@dataclass(frozen=True, slots=True)
class Moved:
    """A date in its new place.

    Attributes:
        text: the date in its own form, in ASCII digits where the text has full-width ones.
        date: the new date, from which dates without a year take theirs.
    """

    text: str
    date: dt.date


def move_date(text: str, days: int, near: dt.date | None = None) -> Moved | None:
    """Return a date `days` later in the same form; None if its form is not understood.

    Args:
        text: the date as found.
        days: days to add.
        near: a date of the same document; a date without a year is taken nearest to it.
    """
    folded = fold(text).strip()
    for form in (_compact, _english, _us, _month_day, _japanese):
        moved = form(folded, days, near)
        if moved:
            return Moved(_widened(text, moved.text), moved.date)
    return None


def has_year(text: str) -> bool:
    """Return whether a date names its year."""
    return bool(re.search(r"\d{4}|[年元]|[RHSTM]\.?\s?\d|'\d\d|\d\d?[/.-]\d\d?[/.-]\d\d?|[㋿㍻㍼㍽㍾]", fold(text)))


def _later(date: dt.date | None, days: int) -> dt.date | None:
    """Return a date some days later; None if there is none, or if it is out of the calendar."""
    try:
        return date + dt.timedelta(days) if date else None
    except OverflowError:
        return None


def _japanese(text: str, days: int, near: dt.date | None) -> Moved | None:
    match = _DATE.fullmatch(text)
    if not match:
        return None
    month, day = _number(match["month"]), _number(match["day"]) if match["day"] else 15
    two_parts = match["year"] and match["day"] is None
    year = _year(match, near, month, day)
    new = _later(_valid(year, month, day), days)
    if new is None or (match["era"] and new < _ERAS[-1][-1]):
        return None
    padded = (
        match["month"].startswith("0")
        or (match["day"] or "").startswith("0")
        or (match["s2"] == "-" and bool(match["year"]))
    )
    parts = [match["head"] or "", _write_year(match, new)]
    parts += [match["s1"] or "", f"{new.month:02}" if padded else _like(match["month"], new.month)]
    if match["day"]:
        parts += [match["s2"], f"{new.day:02}" if padded else _like(match["day"], new.day), match["tail"] or ""]
    elif two_parts or match["s2"]:
        parts += [match["s2"] or ""]
    parts.append(match["third"] or "")
    if match["week"]:
        parts.append(re.sub(f"[{_WEEKDAYS}]", _WEEKDAYS[new.weekday()], match["week"], count=1))
    return Moved("".join(parts), new)


def _year(match: "re.Match[str]", near: dt.date | None, month: int, day: int) -> int:
    if match["era"]:
        return _FIRST_YEAR[match["era"]] + _number(match["eyear"]) - 1
    if match["year"]:
        return _number(match["year"])
    if match["short"]:
        return _century(int(match["short"].lstrip("'")))
    return _nearest_year(near, month, day)


def _nearest_year(near: dt.date | None, month: int, day: int) -> int:
    """Return the year in which a day exists and is nearest to a date; 2001 or the next leap year without one."""
    if near is None:
        return 2001 if _valid(2001, month, day) else 2004
    found = [date for year in range(near.year - 8, near.year + 9) if (date := _valid(year, month, day))]
    return min(found, key=lambda date: abs((date - near).days)).year if found else near.year


def _century(year: int) -> int:
    return year + (1900 if year > 50 else 2000)


def _write_year(match: "re.Match[str]", new: dt.date) -> str:
    if match["era"]:
        for name, letter, square, start in _ERAS:
            if new >= start:
                short = {"令平昭大明": name[0], "㋿㍻㍼㍽㍾": square, "RHSTM": letter}
                mark = next((each for marks, each in short.items() if match["era"] in marks), name)
                year = new.year - start.year + 1
                first = (
                    "元"
                    if (year == 1 and match["eyear"] == "元") or (year == 1 and mark == name)
                    else _like(match["month"] if match["eyear"] == "元" else match["eyear"], year)
                )
                return mark + match["dot"] + first
    if match["year"]:
        return (
            "".join(_KANJI[int(digit)] for digit in str(new.year)) if not match["year"].isdecimal() else str(new.year)
        )
    if match["short"]:
        return ("'" if match["short"].startswith("'") else "") + f"{new.year % 100:02}"
    return ""


def _compact(text: str, days: int, near: dt.date | None) -> Moved | None:
    match = _COMPACT.fullmatch(text)
    old = _valid(*map(int, match.groups())) if match else None
    new = _later(old, days)
    return Moved(f"{new.year:04}{new:%m%d}", new) if new else None


def _us(text: str, days: int, near: dt.date | None) -> Moved | None:
    match = _US.fullmatch(text)
    if not match:
        return None
    month, day, year = int(match[1]), int(match[3]), int(match[4])
    new = _later(_valid(year if len(match[4]) == 4 else _century(year), month, day), days)
    if new is None:
        return None
    year_written = str(new.year) if len(match[4]) == 4 else f"{new.year % 100:02}"
    padded = "0" in (match[1][0], match[3][0])
    month_written, day_written = (f"{each:02}" if padded else str(each) for each in (new.month, new.day))
    return Moved(match[2].join((month_written, day_written, year_written)), new)


def _month_day(text: str, days: int, near: dt.date | None) -> Moved | None:
    """Move 12/5, which is not May 2012."""
    match = re.fullmatch(r"(\d{1,2})([/.-])(\d{1,2})", text)
    if not match:
        return None
    month, day = int(match[1]), int(match[3])
    new = _later(_valid(_nearest_year(near, month, day), month, day), days)
    return Moved(_like(match[1], new.month) + match[2] + _like(match[3], new.day), new) if new else None


def _english(text: str, days: int, near: dt.date | None) -> Moved | None:
    match = _ENGLISH.fullmatch(text)
    month = next((n for n, name in enumerate(MONTHS, 1) if match and name.startswith(match["month"][:3])), None)
    if not match or month is None:
        return None
    day = match["day1"] or match["day2"]
    year = match["year"] and (
        _century(int(match["year"][1:])) if match["year"].startswith("'") else int(match["year"])
    )
    number = int(day) if day else 15
    new = _later(_valid(year or _nearest_year(near, month, number), month, number), days)
    if new is None:
        return None
    name = MONTHS[new.month - 1]
    short = len(match["month"]) < len(MONTHS[month - 1])
    written_month = name[:3] if short else name
    pieces = []
    if match["day1"]:
        pieces += [_ordinal(new.day) if match["ord1"] else str(new.day), match["s0"]]
    pieces += [written_month, match["dot"], match["s1"]]
    if match["day2"]:
        pieces.append(_ordinal(new.day) if match["ord2"] else str(new.day))
    pieces.append(match["s2"])
    if match["year"]:
        pieces.append(f"'{new.year % 100:02}" if match["year"].startswith("'") else str(new.year))
    return Moved("".join(pieces), new)


def _ordinal(day: int) -> str:
    ending = "th" if 10 < day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def _valid(year: int, month: int, day: int) -> dt.date | None:
    try:
        return dt.date(year, month, day)
    except ValueError:
        return None


def _number(text: str) -> int:
    if text.isdecimal():
        return int(text)
    if text == "元":
        return 1
    if "十" in text:
        tens, _, ones = text.partition("十")
        return (_KANJI.index(tens) if tens else 1) * 10 + (_KANJI.index(ones) if ones else 0)
    return int("".join(str(_KANJI.index(char.replace("零", "〇"))) for char in text))


def _like(old: str, number: int) -> str:
    """Return a number in kanji, with a leading zero, or plain, as the old one was."""
    if old.isdecimal():
        return f"{number:0{len(old)}}" if old.startswith("0") or (len(old) == 2 and int(old) < 10) else str(number)
    tens, ones = divmod(number, 10)
    return ("" if tens == 0 else ("" if tens == 1 else _KANJI[tens]) + "十") + (
        _KANJI[ones] if ones or not tens else ""
    )


def _widened(original: str, text: str) -> str:
    """Return a text with full-width digits and signs where the original has them."""
    if not any("０" <= char <= "９" for char in original):
        return text
    return "".join(
        chr(ord(char) + 0xFEE0)
        if (char.isascii() and char.isdigit()) or (char in "/.-" and chr(ord(char) + 0xFEE0) in original)
        else char
        for char in text
    )
