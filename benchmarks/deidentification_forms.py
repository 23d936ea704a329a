"""Forms of dates and numbers, and lists of made-up employers and homes, for the notes of deidentification_notes.py."""

import datetime as dt
import unicodedata
from collections.abc import Callable

DIGITS = "〇一二三四五六七八九"
_ERAS = (("令和", "R", dt.date(2019, 5, 1)), ("平成", "H", dt.date(1989, 1, 8)), ("昭和", "S", dt.date(1926, 12, 25)))
OLD_FORMS = {
    "高橋": "髙橋",
    "吉田": "𠮷田",
    "渡辺": "渡邊",
    "斉藤": "齋藤",
    "浜田": "濵田",
    "山崎": "山﨑",
    "桜井": "櫻井",
}
DOMAINS = ("example.jp", "mail.example.com", "example.ne.jp", "hosp.example.or.jp")
FOREIGN = (
    "グエン・ティ・マイ", "ホアン・ヴァン・ズン", "リン・チェン", "ロドリゲス・マリアナ", "スミス・ジェームズ",
    "金 智英", "王 建華",
    "Nguyen Thi Lan", "Wang Xin", "Juan Dela Cruz", "Emma Thompson", "Kim Soyeon", "アブドゥル・ラーマン",
    "ディネシュ・グルン",
)  # fmt: skip
EMPLOYERS = (
    "東亜リース株式会社", "有限会社まるた水産", "株式会社キタムラ組", "北陽精密工業", "みずほ台小学校",
    "県立青嶺高校", "桜ヶ丘第二中学校",
    "南海フーズ", "つくし保育園", "若狭信用金庫", "三栄タクシー", "新和ホールディングス", "合同会社ハレノヒ",
    "丸の内法律事務所", "聖和女子大学",
    "カワナベ運輸", "ゆうひが丘幼稚園", "日進ロジスティクス", "大和田鉄工", "緑風学園",
)  # fmt: skip
FACILITIES = (
    "特別養護老人ホームあかね苑", "グループホームほたるの里", "介護老人保健施設 みそら",
    "訪問看護ステーションつなぐ", "デイサービスひだまりの家",
    "有料老人ホーム サンヴィラ桜坂", "ケアハウス松籟", "小規模多機能ホームわが家", "さつき薬局駅前店",
    "そうごう薬局 東町店", "クローバー調剤薬局",
    "居宅介護支援事業所はーと", "地域包括支援センターやまなみ",
)  # fmt: skip
BUILDINGS = ("", "", "", " メゾンド青葉{}号室", "コーポ山根{}", " 第3宝マンション{}号", "　サンハイツB-{}")


def wide(text: str) -> str:
    """Return text in full-width letters and digits."""
    return "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in text)


def half_kana(text: str) -> str:
    """Return katakana in half width."""
    table: dict[str, str] = {}
    for code in range(0xFF66, 0xFF9E):
        for mark in ("", "ﾞ", "ﾟ"):
            whole = unicodedata.normalize("NFKC", chr(code) + mark)
            if len(whole) == 1:
                table.setdefault(whole, chr(code) + mark)
    return "".join(table.get(char, char) for char in text)


def kanji_number(value: int) -> str:
    """Return a number below 100 in kanji."""
    tens, ones = divmod(value, 10)
    return ("" if tens < 2 else DIGITS[tens]) + ("十" if tens else "") + (DIGITS[ones] if ones or not tens else "")


def era(date: dt.date) -> tuple[str, str, int]:
    """Return the era of a date: its name, its letter and the year."""
    return next((name, letter, date.year - start.year + 1) for name, letter, start in _ERAS if date >= start)


DATES: dict[str, Callable[[dt.date], str]] = {
    "western": lambda d: f"{d.year}年{d.month}月{d.day}日",
    "zero": lambda d: f"{d.year}年{d.month:02}月{d.day:02}日",
    "slash": lambda d: f"{d.year}/{d.month}/{d.day}",
    "slash0": lambda d: f"{d.year}/{d.month:02}/{d.day:02}",
    "iso": lambda d: d.isoformat(),
    "dot": lambda d: f"{d.year}.{d.month}.{d.day}",
    "compact": lambda d: f"{d:%Y%m%d}",
    "era": lambda d: f"{era(d)[0]}{first_year(era(d)[2])}年{d.month}月{d.day}日",
    "era_spaced": lambda d: f"{era(d)[0]} {era(d)[2]} 年 {d.month} 月 {d.day} 日",
    "era_wide": lambda d: era(d)[0] + wide(f"{era(d)[2]}年{d.month}月{d.day}日"),
    "era_dots": lambda d: f"{era(d)[0]}{era(d)[2]}.{d.month}.{d.day}",
    "era_kanji": lambda d: f"{era(d)[0]}{kanji_number(era(d)[2])}年{kanji_number(d.month)}月{kanji_number(d.day)}日",
    "era_month": lambda d: f"{era(d)[0]}{first_year(era(d)[2])}年{d.month}月",
    "letter": lambda d: f"{era(d)[1]}{era(d)[2]}.{d.month}.{d.day}",
    "letter0": lambda d: f"{era(d)[1]}{era(d)[2]:02}/{d.month:02}/{d.day:02}",
    "letter_hyphen": lambda d: f"{era(d)[1]}{era(d)[2]}-{d.month}-{d.day}",
    "letter_year": lambda d: f"{era(d)[1]}{era(d)[2]}年{d.month}月{d.day}日",
    "letter_wide": lambda d: wide(f"{era(d)[1]}{era(d)[2]}.{d.month}.{d.day}"),
    "short_era": lambda d: f"{era(d)[0][0]}{era(d)[2]}.{d.month}.{d.day}",
    "month_day": lambda d: f"{d.month}月{d.day}日",
    "month_day_kanji": lambda d: f"{kanji_number(d.month)}月{kanji_number(d.day)}日",
    "md": lambda d: f"{d.month}/{d.day}",
    "md_weekday": lambda d: f"{d.month}/{d.day}({'月火水木金土日'[d.weekday()]})",
    "weekday": lambda d: f"{d.year}年{d.month}月{d.day}日（{'月火水木金土日'[d.weekday()]}）",
    "year_month": lambda d: f"{d.year}年{d.month}月",
    "ym_slash": lambda d: f"{d.year}/{d.month:02}",
    "english": lambda d: f"{d:%b} {d.day}, {d.year}",
    "dmy": lambda d: f"{d.day}-{d:%b}-{d.year}",
}  # fmt: skip


def first_year(year: int) -> str:
    """Return the year of an era, the first as 元."""
    return "元" if year == 1 else str(year)
