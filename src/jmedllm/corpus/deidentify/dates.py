"""Finds dates: western years, Japanese eras in every spelling, and dates without a year."""

import re
from collections.abc import Iterator

from jmedllm.corpus.deidentify.spans import Confidence, Span

_KANJI = "〇零一二三四五六七八九十"
_N = rf"(?:\d{{1,2}}|[{_KANJI}]{{1,3}})"
_YEAR4 = rf"(?:(?:1[89]|20)\d\d|[一二][{_KANJI[:-1]}]{{3}})"
_ERA_NAME = r"(?:明治|大正|昭和|平成|令和|[㍾㍽㍼㍻㋿])"
_ERA_YEAR = rf"{_ERA_NAME}\s?(?:元|{_N})"
_LETTER_YEAR = r"(?<![A-Za-z0-9])[MTSHR]\.?\s?(?:\d{1,2}|元)"
_WEEKDAY = r"(?:\s?[(（]\s?[月火水木金土日](?:曜日?)?(?:・?祝)?\s?[)）])?"
_MONTH = r"(?:1[0-2]|0?[1-9])"
_DAY = r"(?:3[01]|[12]\d|0?[1-9])"
_MONTHS_EN = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_DAY_EN = r"(?:3[01]|[12]\d|0?[1-9])(?:st|nd|rd|th)?"
_YEAR_EN = r"(?:(?:19|20)\d\d|'\d\d)"
_YEAR_UNIT = rf"(?:{_YEAR4}|{_ERA_YEAR}|{_LETTER_YEAR})"

_AFTER_MONTH_DAY = (
    r"(?=\s?(?:\d{1,2}[:時]|[(（][月火水木金土日]|に(?!低下|改善|回復|短縮|減)|より|から|まで|頃|ごろ|付"
    r"|の?(?:外来|午前|午後|朝|夕|夜|昼"
    r"|受診|再診|初診|入院|退院|手術|採血|検査|面談|夜間|早朝|日勤|夜勤|CT|MRI|検体|分|来院|時点|予約|術後"
    r"|訪問)|[ \t]+[SOAP]\b|[~〜]))"
)
_NOT_A_SCORE = r"(?<!MMT)(?<!MMT )(?<!筋力)(?<!筋力 )(?<!NRS)(?<!NRS )(?<!VAS)(?<!VAS )"

_RULES: tuple[tuple[str, Confidence, str], ...] = (
    ("year-month-day", "certain", rf"(?:西暦)?{_YEAR_UNIT}\s?年\s?{_N}\s?月\s?{_N}\s?日{_WEEKDAY}"),
    ("year-month", "certain", rf"(?:西暦)?{_YEAR_UNIT}\s?年\s?{_N}\s?月(?![0-9{_KANJI}間])(?:[上中下]旬|初め|末|頃)?"),
    (
        "year-of-era-dots",
        "certain",
        rf"{_ERA_NAME}\s?(?:\d{{1,2}}|元)\s?[./-]\s?{_MONTH}\s?[./-]\s?{_DAY}(?!\d){_WEEKDAY}",
    ),
    ("letter-of-era", "certain", rf"{_LETTER_YEAR}\s?[./年-]\s?{_MONTH}\s?[./月-]\s?{_DAY}日?(?![\d]){_WEEKDAY}"),
    ("letter-of-era-month", "likely", rf"{_LETTER_YEAR}[./]{_MONTH}(?![\d./])(?=[\s、。,に頃~〜よかま生])"),
    ("numbers", "certain", rf"(?<![\d./-])(?:1[89]|20)\d\d\s?[./-]\s?{_MONTH}\s?[./-]\s?{_DAY}(?!\d){_WEEKDAY}"),
    ("two-digit-year", "certain", rf"(?<![A-Za-z0-9'])'\d\d[./-]{_MONTH}(?:[./-]{_DAY})?(?![\d/])"),
    ("two-digit-year-bare", "likely", r"(?<![A-Za-z0-9./'-])\d\d/(?:1[0-2]|0[1-9])/(?:3[01]|[12]\d|0[1-9])(?![\d/])"),
    ("year-month-numbers", "likely", r"(?<![\d./-])(?:19|20)\d\d[./](?:1[0-2]|0?[1-9])(?![\d./-]|\s?[a-zA-Z%])"),
    ("compact", "certain", r"(?<![\d.-])(?:19|20)\d\d(?:1[0-2]|0[1-9])(?:3[01]|[12]\d|0[1-9])(?![\d-]|\.\d)"),
    ("month-day", "certain", rf"(?<![\d{_KANJI}ヶケか]){_N}\s?月\s?{_N}\s?日(?!間|分の処方){_WEEKDAY}"),
    (
        "month-day-slash",
        "likely",
        rf"{_NOT_A_SCORE}(?<![\d/.(A-Za-z-]){_MONTH}/{_DAY}(?![\d/]){_AFTER_MONTH_DAY}{_WEEKDAY}",
    ),
    (
        "english",
        "certain",
        rf"(?<![A-Za-z]){_MONTHS_EN}\s?{_DAY_EN}(?![\d])(?:\s?(?:-|–"
        rf"|to)\s?{_DAY_EN}(?!\d))?(?:,?\s?{_YEAR_EN})?(?![A-Za-z\d])",
    ),
    (
        "english-day-first",
        "certain",
        rf"(?<![\d.]){_DAY_EN}(?:\s|-|/)?(?:of\s)?{_MONTHS_EN}(?:,?[\s/-]?{_YEAR_EN})?(?![A-Za-z\d])",
    ),
    ("english-month-year", "certain", rf"(?<![A-Za-z]){_MONTHS_EN},?\s(?:of\s)?{_YEAR_EN}(?![A-Za-z\d])"),
    ("us-numbers", "certain", rf"(?<![\d./-]){_MONTH}([/-]){_DAY}\1(?:(?:19|20)\d\d|\d\d)(?![\d/-])"),
    ("day-first-numbers", "certain", rf"(?<![\d./-]){_DAY}([./-]){_MONTH}\1(?:19|20)\d\d(?![\d/-])"),
)
_PATTERNS = tuple((name, confidence, re.compile(pattern)) for name, confidence, pattern in _RULES)
_LINE_DATE = re.compile(rf"(?m)^\s*({_MONTH}/{_DAY})(?![\d/])(?=\s|[:：(（]|$)")
_AGES = re.compile(
    r"(?<![\d.])(?:満\s?)?(?:9\d|1[0-2]\d)\s?(?:歳|才|さい|[- ]?(?:years?|yrs?)[- ]old|[- ]?y/?o\b)"
    r"|満?(?:九十[一二三四五六七八九]?|百[一二]?十?[一二三四五六七八九]?)(?:歳|才)"
    r"|(?i:\b(?:aged?|age:?)\s(?:9\d|1[0-2]\d)\b)"
)


def find_dates(folded: str) -> Iterator[Span]:
    """Yield the dates of a text with folded widths. Years alone are kept, as HIPAA's safe harbor allows."""
    for name, confidence, pattern in _PATTERNS:
        for match in pattern.finditer(folded):
            yield Span(match.start(), match.end(), "DATE", confidence, f"date:{name}")
    for match in _LINE_DATE.finditer(folded):
        yield Span(match.start(1), match.end(1), "DATE", "likely", "date:line")


def find_ages(folded: str) -> Iterator[Span]:
    """Yield ages from 90, which HIPAA counts as identifiers."""
    for match in _AGES.finditer(folded):
        yield Span(match.start(), match.end(), "AGE90", "certain", "age")
