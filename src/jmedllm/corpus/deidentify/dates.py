"""Finds dates: western years, Japanese eras in every spelling, and dates without a year."""

import re
from collections.abc import Iterator

from jmedllm.corpus.deidentify.spans import Confidence, Span

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

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
    r"(?=\s?(?:\d{1,2}[:時]|[(（][月火水木金土日]|に(?!低下|改善|回復|短縮|減|縮小|希釈|調整)|より(?!小|大|低"
    r"|高)|から|まで|頃|ごろ|付|以[降前後]|現在|夜|朝|夕|未明"
    r"|の?(?:外来|午前|午後|朝|夕|夜|昼"
    r"|受診|再診|初診|入院|退院|手術|採血|検査|面談|夜間|早朝|日勤|夜勤|CT|MRI|検体|分(?!画)|来院|時点|予約|術後"
    r"|訪問|提出|透析|実施|施行|予定|開始|終了|締切|回診|カンファ|血液|心電図|エコー|内視鏡|健診|面会|転院"
    r"|転棟|転床|抜糸|抜管|分娩|出生|発症|死亡|解剖|発行|交付|依頼"
    r"|往診|診察|説明|連絡|電話|定期|診|初回|最終|申し送り|記録|記載)|[ \t]+[SOAP]\b|[~〜→]))"
)
_NOT_A_SCORE = r"(?<!MMT)(?<!MMT )(?<!筋力)(?<!筋力 )(?<!NRS)(?<!NRS )(?<!VAS)(?<!VAS )"
_DAY_SAID_BEFORE = re.compile(
    r"(?:明日|本日|今日|昨日|一昨日|明後日|翌日|翌朝|翌週|来週|先週|今週|次回|前回|今回|初回|最終|発症|手術"
    r"|入院|退院|転院|受診|再診|初診|予約|予定日?|検査|採血|調査|面談|外来"
    r"|撮影|施行|実施|訪問|提出|交付|開始|中止|終了|期限|締切|抜糸|抜去|出生|分娩|死亡|作成|記載|発行|依頼"
    r"|連絡|報告|説明|健診|日付|[入退受来]院日|生年月日|日|ろ紙|キット)"
    r"(?:日|は|が|の|に|、|[:：]|\s|＝|=){0,3}$"
)
_SCORE_BEFORE = re.compile(
    r"(?:MMT|筋力|NRS|VAS|FS|瞳孔|反射|[Aa]pgar|アプガー|Levine|雑音|視力|GCS|JCS|HDS(?:-R)?|MMSE|MoCA|FAB"
    r"|スコア|点|比|率|約|リンパ節|血圧|BP|潜血|FIM|BI|[Ss]tage|徒手|徒手筋力|[A-Za-z]\d?|[(（]|確率"
    r"|割合|希釈|濃度|量)[\s:：=＝,、]{0,3}$"
)
_UNIT_AFTER = re.compile(
    r"\s?(?:錠|個|T\b|点|mm|cm|量|程度|回|本|例|名|人|歳|%|以[下上]|に(?:低下|改善|減|縮小)|筋|生食|カプセル|包"
    r"|単位|倍|m?L\b|mg|μ?g\b|度|期|肋間|椎|指|視野|人|世帯|周|月|年|分画|視|(?<=\d)[A-Za-z])"
)
_BARE_MONTH_DAY = re.compile(rf"(?<![\d/.A-Za-z+-])({_MONTH})/({_DAY})(?![\d/.])")

_RULES: tuple[tuple[str, Confidence, str], ...] = (
    ("year-month-day", "certain", rf"(?:西暦)?{_YEAR_UNIT}\s?年\s?{_N}\s?月\s?{_N}\s?日{_WEEKDAY}"),
    ("year-month", "certain", rf"(?:西暦)?{_YEAR_UNIT}\s?年\s?{_N}\s?月(?![0-9{_KANJI}間])(?:[上中下]旬|初め|末|頃)?"),
    (
        "year-of-era-dots",
        "certain",
        rf"{_ERA_NAME}\s?(?:\d{{1,2}}|元)\s?[./・-]\s?{_MONTH}\s?[./・-]\s?{_DAY}(?!\d){_WEEKDAY}",
    ),
    ("letter-of-era", "certain", rf"{_LETTER_YEAR}\s?[./・年-]\s?{_MONTH}\s?[./・月-]\s?{_DAY}日?(?![\d]){_WEEKDAY}"),
    (
        "short-era",
        "certain",
        rf"(?<![一-龥])[明大昭平令]\s?(?:\d{{1,2}}|元)(?:\s?[./・-]\s?{_MONTH}\s?[./・-]\s?{_DAY}(?!\d){_WEEKDAY}"
        rf"|\s?年\s?{_N}\s?月(?:\s?{_N}\s?日{_WEEKDAY})?)",
    ),
    ("letter-of-era-month", "likely", rf"{_LETTER_YEAR}[./]{_MONTH}(?![\d./])(?=[\s、。,に頃~〜よかま生])"),
    ("numbers", "certain", rf"(?<![\d./-])(?:1[89]|20)\d\d\s?[./-]\s?{_MONTH}\s?[./-]\s?{_DAY}(?!\d){_WEEKDAY}"),
    ("two-digit-year", "certain", rf"(?<![A-Za-z0-9'])'\d\d[./-]{_MONTH}(?:[./-]{_DAY})?(?![\d/])"),
    ("two-digit-year-bare", "likely", r"(?<![A-Za-z0-9./'-])\d\d/(?:1[0-2]|0[1-9])/(?:3[01]|[12]\d|0[1-9])(?![\d/])"),
    ("year-month-numbers", "likely", r"(?<![\d./-])(?:19|20)\d\d[./](?:1[0-2]|0?[1-9])(?![\d./-]|\s?[a-zA-Z%])"),
    ("compact", "certain", r"(?<![\d.-])(?:19|20)\d\d(?:1[0-2]|0[1-9])(?:3[01]|[12]\d|0[1-9])(?![\d-]|\.\d)"),
    (
        "compact-time",
        "certain",
        r"(?<![\d.-])(?:19|20)\d\d(?:1[0-2]|0[1-9])(?:3[01]|[12]\d|0[1-9])"
        r"(?=(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?(?!\d))",
    ),
    ("month-day", "certain", rf"(?<![\d{_KANJI}ヶケか]){_N}\s?月\s?{_N}\s?日(?!間|分の処方){_WEEKDAY}"),
    (
        "month-day-weekday",
        "certain",
        rf"(?<![\d/.A-Za-z-]){_MONTH}/{_DAY}\s?[(（]\s?[月火水木金土日](?:曜日?)?(?:・?祝)?\s?[)）]",
    ),
    (
        "month-day-slash",
        "likely",
        rf"{_NOT_A_SCORE}(?<![\d/.(A-Za-z-]){_MONTH}/{_DAY}(?![\d/]){_AFTER_MONTH_DAY}{_WEEKDAY}",
    ),
    (
        "month-day-in-brackets",
        "likely",
        rf"(?<=\(){_MONTH}/{_DAY}(?=より(?!小|大|低|高)|から|まで|付|以[降前後]|頃|の?(?:入院|退院|手術|検査|採血|受診|CT|MRI))",
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
_LINE_DATE = re.compile(rf"(?m)^[^\S\n]*({_MONTH}/{_DAY})(?![\d/])(?=\s|[:：(（]|$)")
_AGES = re.compile(
    r"(?<![\d.])(?:満\s?)?(?:9\d|1[0-2]\d)\s?(?:歳以上|才以上|歳|才|さい|[- ]?(?:years?|yrs?)[- ]old|[- ]?y/?o\b)"
    r"|満?(?:九十[一二三四五六七八九]?|百[一二]?十?[一二三四五六七八九]?)(?:歳|才)(?:以上)?"
    r"|(?i:\b(?:aged?|age:?)\s(?:9\d|1[0-2]\d)\b)"
)


def find_dates(folded: str) -> Iterator[Span]:
    """Yield the dates of a text with folded widths. Years alone are kept, as HIPAA's safe harbor allows."""
    has_others = False
    for name, confidence, pattern in _PATTERNS:
        for match in pattern.finditer(folded):
            has_others = has_others or name.startswith("month-day-")
            yield Span(match.start(), match.end(), "DATE", confidence, f"date:{name}")
    for match in _LINE_DATE.finditer(folded):
        has_others = True
        yield Span(match.start(1), match.end(1), "DATE", "likely", "date:line")
    yield from find_month_days(folded, has_others=has_others)


def find_month_days(folded: str, *, has_others: bool) -> Iterator[Span]:
    """Yield 5/3 and the like: after a word such as 明日, at the end of a line, or if the text has others.

    Scores (MMT 4/5), fractions (1/2) and what has a unit (2/3錠) are left.
    """
    for match in _BARE_MONTH_DAY.finditer(folded):
        before = folded[max(0, match.start() - 10) : match.start()]
        if _SCORE_BEFORE.search(before) or _UNIT_AFTER.match(folded, match.end()):
            continue
        is_fraction = int(match[1]) < int(match[2]) <= 6 or match[1] == match[2]
        ends_line = before.endswith(" ") and folded[match.end() : match.end() + 1] in ("", "\n")
        if _DAY_SAID_BEFORE.search(before) or ((has_others or ends_line) and not is_fraction):
            yield Span(match.start(), match.end(), "DATE", "likely", "date:month-day-bare")


def find_ages(folded: str) -> Iterator[Span]:
    """Yield ages from 90, which HIPAA counts as identifiers."""
    for match in _AGES.finditer(folded):
        yield Span(match.start(), match.end(), "AGE90", "certain", "age")
