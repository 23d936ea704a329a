"""Finds addresses and places by the list of municipalities and by the form of a number of a house."""

import re
from collections.abc import Iterator
from functools import lru_cache

from jmedllm.corpus.deidentify.lexicon import VARIANTS
from jmedllm.corpus.deidentify.lists import rows
from jmedllm.corpus.deidentify.spans import Span

_PREFECTURE = (
    r"(?:北海道|東京都|(?:京都|大阪)府|(?:神奈川|和歌山|鹿児島)県|(?:青森|岩手|宮城|秋田|山形|福島|茨城|栃木"
    r"|群馬|埼玉|千葉|新潟|富山|石川"
    r"|福井|山梨|長野|岐阜|静岡|愛知|三重|滋賀|兵庫|奈良|鳥取|島根|岡山|広島|山口|徳島|香川|愛媛|高知|福岡"
    r"|佐賀|長崎|熊本|大分|宮崎|沖縄)県)"
)
_KANJI = "〇一二三四五六七八九十百"
_NUMBER = rf"(?:\d{{1,5}}|[{_KANJI}]{{1,5}})"
_LINK = r"(?:丁目|丁(?=\d)|番地|番(?!町)|号|条[東西南北]?|線[東西南北]?|地割|の|ノ|之|-|[東西南北](?=\d))"
_TOWN = r"[一-龥々〆ヵヶケぁ-んァ-ヴー・A-Z]"
_HOUSE = (
    rf"(?:\d{{1,5}}(?:[ \t]?{_LINK}{{1,2}}[ \t]?(?:[A-Z]?\d{{1,5}}[A-Z]?|[{_KANJI}]{{1,5}})){{1,6}}(?:丁目"
    rf"|番地|番|号室|号|階|F)?(?:の\d+)?(?:[A-Z]棟)?"
    rf"|{_NUMBER}(?:丁目|番地|番(?!町)|条|線|地割)[東西南北]?(?:[ \t]?{_NUMBER}[ \t]?{_LINK}{{0,2}}){{0,5}}"
    r"|\d{1,5}(?=$|[\s、。,()（）\nにでのをはがへと「」]|在住|居住|出身|から|より|まで|[^\s、。]{0,16}(?:ビル"
    r"|階|F|号)))"  # 24
)
_NOT_A_TOWN = (
    r"(?!\D{0,8}(?:在住|出身|勤務|居住|通院|受診|紹介|転居|搬送|病院|クリニック|医院|診療所|センター|まで|から"
    r"|より|へ|では))"
)
_TAIL = re.compile(rf"[ \t]?{_NOT_A_TOWN}(?:{_TOWN}{{0,20}}?[ \t]?){_HOUSE}(?!年|月|日|歳|回|mg|%|時|人|代|か月|週)")
_WORDS = (
    r"(?:ビル|ビルディング|マンション|ハイツ|荘|コーポ|メゾン|アパート|タワー|プラザ|レジデンス|パレス|ハウス"
    r"|団地|住宅|コート|ヒルズ|ビレッジ"
    r"|スクエア|モール|グリーン|ライオンズ|サン|ガーデン|テラス|館|号棟|ステーション|メディカル|寮|ホーム"
    r"|センター|BLD|Bld)"
)
_ROOM = r"(?:\d{1,4}(?:号室|号|階|F|室|棟)|B?\d{1,2}F|[地][下上]?\d階|\d{3,4}(?![\d-])|[A-Z]?\d{1,2}-\d{1,4})"
_NOT_A_BUILDING = r"(?!(?i:電話|tel|fax|携帯|連絡|生年|氏名|[MTSHR]\d|患者|担当|〒|郵便))"
_PART = r"[^\s、。,()（）:：;\n「」【】にへをはがで]"
_BUILDING = re.compile(
    rf"(?:[ \t]?{_NOT_A_BUILDING}(?:{_PART}{{0,6}}(?:が(?=[丘原浜ヶ]))?{_PART}{{0,18}}?(?:{_WORDS}(?:{_PART}"
    rf"|が(?=[丘原浜])){{0,12}}|{_ROOM}[A-Z]?(?:号地?|区画)?)"
    r"|[A-Za-zⅠⅡⅢ.&'][A-Za-zⅠⅡⅢ.&'\d]+|[ァ-ヴー・]{3,}[一-龥A-ZⅠⅡⅢ\d]*(?:が丘[A-Z\d]*)?|-\d{1,4}[A-Z]?階?"
    r"|[A-Z]棟|-[A-Z]\b|\d[A-Z]?区画|[A-Z]区画|[A-Z]号室)(?:、\d{1,2}階)*){1,5}"
)
_PREFECTURE_BEFORE = re.compile(rf"{_PREFECTURE}[ \t]?$")
_TOWN_ALONE = re.compile(
    r"(?<![一-龥ぁ-んァ-ヴー\d])[一-龥々ァ-ヴヶぁ-ん]{1,12}?(?:\d{1,2}"
    r"|[一二三四五六七八九十]{1,2})丁目(?:\d{1,4}(?:番地?|-|の)\d{0,4}号?(?:-\d+)?)?"
)
_LIVES_THERE = re.compile(r"\s?(?:在住|出身|居住|から転居|に転居|へ転居|の自宅|に住|で生まれ|の実家)")
PRODUCT_AFTER = re.compile("産(?![科婦後前褥])|特産|名産")
"""After a place: 上田市産のりんご."""

_END = re.compile("[市区町村]")


PREFECTURE = re.compile(_PREFECTURE)


@lru_cache(maxsize=1)
def _prefectures() -> dict[str, str]:
    """Return the prefecture of each municipality whose name only one prefecture has."""
    found: dict[str, set[str]] = {}
    for prefecture, listed in rows("municipalities.tsv"):
        name = listed.translate(VARIANTS)
        parts = re.fullmatch(r"(.+?郡)(.+[町村])|(.+市)(.+区)", name)
        for each in (name, *((parts[1] or parts[3], parts[2] or parts[4]) if parts else ())):
            found.setdefault(each, set()).add(prefecture)
    return {name: next(iter(where)) for name, where in found.items() if len(where) == 1}


def prefecture_of(folded: str) -> str | None:
    """Return the prefecture of the municipality that a place begins with; None if none does, or it is uncertain."""
    known = _prefectures()
    return next((known[folded[:size]] for size in range(min(12, len(folded)), 1, -1) if folded[:size] in known), None)


@lru_cache(maxsize=1)
def _municipalities() -> tuple[frozenset[str], int]:
    """Return the names that municipalities go by, and the length of the longest."""
    names = set()
    for _, listed in rows("municipalities.tsv"):
        name = listed.translate(VARIANTS)  # as the text is folded: 須惠町
        names.add(name)
        county = re.fullmatch(r"(.+?郡)(.+[町村])", name)
        ward = re.fullmatch(r"(.+市)(.+区)", name)
        if county:
            names.add(county[2])
        if ward:
            names.update((ward[1], ward[2]))
    return frozenset(names), max(map(len, names))


@lru_cache(maxsize=1)
def short_municipalities() -> frozenset[str]:
    """Return the names of municipalities as providers have them: 大府 of 大府市."""
    names, _ = _municipalities()
    return frozenset(name[:-1] for name in names if len(name) > 2)


def municipality_at(text: str, end: int) -> int | None:
    """Return the start of the longest name of a municipality that ends at `end`."""
    names, longest = _municipalities()
    for length in range(min(longest, end), 1, -1):
        if text[end - length : end] in names:
            return end - length
    return None


def find_addresses(folded: str) -> Iterator[Span]:
    """Yield addresses to the house, and municipalities without one. A prefecture alone is kept."""
    done = 0
    for sign in _END.finditer(folded):
        start = municipality_at(folded, sign.end()) if sign.end() > done else None
        if start is None or start < done:
            continue
        name_start, end = start, sign.end()
        before = _PREFECTURE_BEFORE.search(folded, max(0, start - 6), start)
        longer = next((at for at in range(end + 7, end + 1, -1) if _is_longer(folded, start, at)), end)
        end = longer
        start = before.start() if before else start
        tail = _TAIL.match(folded, end)
        if tail:
            building = _BUILDING.match(folded, tail.end())
            done = building.end() if building else tail.end()
            yield Span(start, done, "ADDRESS", "certain", "address")
        elif PRODUCT_AFTER.match(folded, end):
            continue
        elif before or folded[end - 1] in "市区" or _LIVES_THERE.match(folded, end):
            if name_start == start and end - start == 2 and not _LIVES_THERE.match(folded, end):
                continue  # 北区, 東村: too short to be certain
            done = end
            yield Span(start, end, "LOCATION", "likely", "place:municipality")
    for match in _TOWN_ALONE.finditer(folded):
        building = _BUILDING.match(folded, match.end())
        yield Span(match.start(), building.end() if building else match.end(), "ADDRESS", "likely", "address:town")


def _is_longer(folded: str, start: int, end: int) -> bool:
    """Return whether a longer name of a municipality begins at `start`: 広島市安佐北区 and not only 広島市."""
    names, _ = _municipalities()
    return end <= len(folded) and folded[start:end] in names
