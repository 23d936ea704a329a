"""Finds identifiers that have a form: telephone and fax, postal code, e-mail, URL, numbers of persons and cards."""

import re
from collections.abc import Iterator

from jmedllm.corpus.deidentify.spans import Confidence, Label, Span

_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9][A-Za-z0-9._%+-]*\s?@\s?[A-Za-z0-9](?:[A-Za-z0-9-]*\.)+[A-Za-z]{2,}"
)
_URL = re.compile(
    r"(?i:https?|ftp)://[^\s<>\"'「」『』（）、。，)\]]+"
    r"|(?<![A-Za-z0-9@.-])(?i:www)\.[A-Za-z0-9-]+\.[^\s<>\"'「」『』（）、。，)\]]+"
    r"|(?<![A-Za-z0-9@.-])(?:[A-Za-z0-9-]+\.)+(?:com|org|net|jp|info|edu"
    r"|gov)(?:/[A-Za-z0-9._~/?#=&%+-]*)?(?![A-Za-z0-9.])"
)
_IP = re.compile(r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])")

_SEP = r"(?:\s?[-()./\s]\s?)"
_PHONE = re.compile(
    r"(?<![\d.-])(?:"
    r"\+81\s?[-\s]?\(?0?\)?[1-9]\d{0,3}[-\s.]?\d{1,4}[-\s.]?\d{3,4}"  # international
    r"|\+[1-9]\d{0,2}[-.\s]?(?:\(0\))?\d{1,5}(?:[-.\s]\d{2,5}){1,4}"  # of other countries
    rf"|\(?0[5789]0\)?{_SEP}?\d{{4}}{_SEP}?\d{{4}}"  # mobile, IP
    rf"|0(?:120|800|570){_SEP}?\d{{2,3}}{_SEP}?\d{{3,4}}"  # toll-free
    rf"|\(?0[1-9]\d{{0,3}}\)?{_SEP}\d{{1,4}}{_SEP}\d{{4}}"  # land line with separators
    r"|0[1-9]\d{8}"  # land line without
    r")(?![\d]|-\d)"
)
_KANJI_PHONE = re.compile(
    r"[〇零][〇零一二三四五六七八九]{1,4}(?:[-ー−―・][〇零一二三四五六七八九]{1,4}){2}(?![〇零一二三四五六七八九])"
)
_CALL_WORD = r"(?i:tel|電話(?:番号)?|連絡先|携帯(?:電話)?(?:番号)?|自宅|phone|直通|代表|℡|☎)"
_EXTENSION = re.compile(
    r"(?:(?:内線|PHS|ピッチ|院内電話|ext\.?)(?:番号)?[\s:：(（は]{0,3})(\d{3,5})(?!\d)", re.IGNORECASE
)
_FAX_WORD = re.compile(r"(?i:fax|ファックス|ファクス|ファクシミリ|℻)(?:番号|\s?no\.?|\s?number)?[^\d\n+(]{0,6}$")
_US_PHONE = re.compile(
    r"(?<![\w.-])(?:\+?1[-.\s])?(?:\(\d{3}\)\s?|\d{3}[-.\s])\d{3}[-.\s]\d{4}(?:\s?(?:x|ext\.?)\s?\d{1,6})?(?![\w-])"
)
_LOCAL_PHONE = re.compile(rf"{_CALL_WORD}[\s:：は]{{0,3}}(\d{{2,4}}-\d{{4}})(?![\d-])")

_POSTAL = re.compile(r"〒\s?(\d{3}\s?-?\s?\d{4})(?!\d)|(?<![\d-])(\d{3}-\d{4})(?![\d-])")
_POSTAL_BEFORE = re.compile(r"(?:郵便番号|住所|居住地|所在地|現住所|本籍)[\s:：]{0,3}$")
_PLACE_AFTER = re.compile(r"[\s,、:：）)]{0,3}(?:[一-龥]{2,3}[都道府県]|[一-龥ぁ-んァ-ヶ]{1,6}[市区町村郡])")
_US_ZIP = re.compile(r"(?<=[A-Z]{2}[\s,])\d{5}(?:-\d{4})?(?!\d)")

_NEXT = r"(?!\d{1,4}\s?(?:[年月日歳才代時分回例/:.]|-\d{1,2}-\d)|(?:19|20)\d{6}(?!\d)|\d{1,3}[MF]\b|0\d{1,3}-\d)"
"""No date, age, time or telephone number, which may follow a number after a space: ID 12345 2024年5月1日."""

_VALUE = rf"(#?\s?[A-Za-z]{{0,4}}\s?[-・]?\s?\d[\dA-Za-z]*(?:(?:[-・/](?!\d{{4}}年)|[ ]{_NEXT})\d[\dA-Za-z]*)*)"
_NUMBER_END = r"(?:番号|No\.?|NO\.?|ナンバー|コード|ID|ＩＤ|#)"
_LINK = r"[\s:：;は#＃=.)）】\]]{0,4}"


def _numbered(words: str) -> "re.Pattern[str]":
    return re.compile(rf"(?:{words}){_LINK}{_VALUE}")


_KEYED: tuple[tuple[Label, str, "re.Pattern[str]"], ...] = (
    (
        "MYNUMBER",
        "mynumber:word",
        re.compile(rf"(?:個人番号|マイナンバー(?:カード)?(?:番号)?){_LINK}(\d{{4}}[-\s]?\d{{4}}[-\s]?\d{{4}})(?!\d)"),
    ),
    (
        "INSURANCE_ID",
        "number:insurance",
        _numbered(
            rf"(?:介護保険)?(?:被保険者証?|保険者|公費負担者|公費受給者|受給者|負担者|保険証|保険|被保"
            rf"|後期高齢者医療|記号|枝番|資格者証)"
            rf"(?:{_NUMBER_END}|(?<=記号)(?:[・･]番号)?|(?<=記号))"
        ),
    ),
    (
        "LICENSE_ID",
        "number:licence",
        _numbered(
            r"(?:医籍|薬剤師名簿|籍|登録|免許|麻薬施用者|運転免許証?|免許証|保険医|旅券|パスポート|在留カード"
            r"|障害者手帳|手帳)(?:登録)?(?:[（(]?番号|No\.?)[\s:：]{0,3}第?"
        ),
    ),
    ("ACCOUNT_ID", "number:account", _numbered(r"(?:口座(?:番号)?|普通預金|普通口座|カード番号|クレジットカード)")),
    (
        "DEVICE_ID",
        "number:device",
        _numbered(
            r"(?:シリアル(?:番号|No\.?)|製造番号|機器番号|デバイスID|車両番号|UDI|(?i:serial (?:number|no\.?)"
            r"|device id))"
        ),
    ),
    (
        "PATIENT_ID",
        "number:patient",
        _numbered(
            rf"(?:患者|カルテ|診察券|診察|受診|受付|病理|検体|標本|組織|細胞診|アクセッション|オーダー?|整理"
            rf"|会員|登録|症例|入院|外来|利用者"
            rf"|紹介状?|予約|伝票|処方箋?|検査|依頼|受験|職員|社員|学籍|管理|個人|レセプト|伝送|問診"
            rf"|ロット外){_NUMBER_END}"
            rf"|(?<![A-Za-z])(?:ID|Pt\.?\s?ID|Patient ID|MRN|Chart\s?(?:No\.?|#)|Case\s?No\.?|カルテ)(?:番号|No\.?)?"
        ),
    ),
    (
        "PATIENT_ID",
        "number:no",
        re.compile(r"(?<![A-Za-z])(?:No|Ｎｏ|№|NO)[.:\s]{1,3}([A-Z]{0,3}-?\d{4,}(?:-\d+)*)"),
    ),
)
_CARD_NUMBER = re.compile(r"(?:保険証|被保険者証|記号番号)[\s:：]{0,3}(\d{1,8}[・･-]\d{1,8})(?![\d-])")
_ANY_NUMBER = re.compile(
    rf"(?<![一-龥])(?!(?:承認|製造|型|品|規格|染色体|原子|問題|設問|文献|図|表|薬価|試験|製品|登録商標|版|電話"
    rf"|郵便)番)"
    rf"[一-龥]{{1,8}}(?:番号|コード|ID|No\.?)[\s:：]{{1,3}}{_VALUE}"
)
_SYMBOL_NUMBER = re.compile(r"記号\s?[:：]?\s?([\d\-・]{2,12})[\s、・]{1,3}番号\s?[:：]?\s?(\d[\d\-・]{0,11})")
_NOT_A_PERSONS = re.compile(
    r"(?i:lot|ロット|isbn|issn|pmid|pmc|doi|nct|umin|jan|gtin|jrct|japiccti|承認番号|第"
    r"|ver\.?)[\s:：.#番号]{0,4}[A-Za-z]{0,5}$"
)
_BARE: tuple[tuple[str, Confidence, "re.Pattern[str]"], ...] = (
    ("number:pathology", "likely", re.compile(r"(?<![A-Za-z0-9-])[A-Z]{1,3}\d{2}-\d{4,6}(?![\d-])")),
    ("number:letter", "likely", re.compile(r"(?<![A-Za-z0-9-])[A-Z]{1,3}-?\d{6,9}(?![\dA-Za-z-])")),
    (
        "number:bare",
        "likely",
        re.compile(
            r"(?<![\dA-Za-z.,+¥￥$-])\d{7,10}(?![\dA-Za-z,%円個倍mgμ/-]|\.\d|\s?(?:[×x/％%]|IU|U/|copies|個"
            r"|倍|単位|人|円|例))"
        ),
    ),
    ("number:hyphens", "likely", re.compile(r"(?<![\dA-Za-z.-])\d{2,4}-\d{4,6}-\d{1,4}(?![\d-])")),
)
_MYNUMBER = re.compile(r"(?<![\d-])(\d{4})([- ]?)(\d{4})\2(\d{4})(?![\d-])")


def is_mynumber(digits: str) -> bool:
    """Return whether 12 digits have the check digit of 個人番号 (総務省令第85号, 2014, article 5).

    The weight of the n-th of the 11 other digits from the right is n + 1 up to the 6th, then n - 5. The check digit is
    11 less the remainder of their sum by 11, or 0 if that is 10 or more.
    """
    weights = (n + 1 if n <= 6 else n - 5 for n in range(1, 12))
    rest = sum(weight * int(digit) for weight, digit in zip(weights, reversed(digits[:11]), strict=True)) % 11
    return int(digits[11]) == (0 if rest <= 1 else 11 - rest)


def find_contacts(folded: str) -> Iterator[Span]:
    """Yield e-mail addresses, URLs, telephone and fax numbers and postal codes."""
    for match in _EMAIL.finditer(folded):
        yield Span(match.start(), match.end(), "EMAIL", "certain", "email")
    for match in _URL.finditer(folded):
        end = match.start() + len(match[0].rstrip(".,;:!?'"))
        yield Span(match.start(), end, "URL", "certain", "url")
    for match in _IP.finditer(folded):
        yield Span(match.start(), match.end(), "URL", "likely", "ip")
    for pattern in (_PHONE, _US_PHONE):
        for match in pattern.finditer(folded):
            if pattern is _PHONE and not 9 <= sum(map(str.isdigit, match[0])) <= 13:
                continue
            fax = _FAX_WORD.search(folded, max(0, match.start() - 16), match.start())
            yield Span(match.start(), match.end(), "FAX" if fax else "PHONE", "certain", "phone")
    for match in _KANJI_PHONE.finditer(folded):
        yield Span(match.start(), match.end(), "PHONE", "likely", "phone:kanji")
    for pattern in (_EXTENSION, _LOCAL_PHONE):
        for match in pattern.finditer(folded):
            yield Span(match.start(1), match.end(1), "PHONE", "likely", "phone:word")
    for match in _POSTAL.finditer(folded):
        group = 1 if match[1] else 2
        start, end = match.span(group)
        if group == 1 or _POSTAL_BEFORE.search(folded, max(0, start - 8), start) or _PLACE_AFTER.match(folded, end):
            yield Span(start, end, "POSTAL", "certain", "postal")
    for match in _US_ZIP.finditer(folded):
        yield Span(match.start(), match.end(), "POSTAL", "likely", "postal:zip")


def find_numbers(folded: str) -> Iterator[Span]:
    """Yield the numbers of patients, insurances, licences, accounts and devices, and 個人番号."""
    for label, rule, keyed in _KEYED:
        for match in keyed.finditer(folded):
            end = match.start(1) + len(match[1].rstrip())
            if sum(map(str.isdigit, match[1])) >= (1 if label == "INSURANCE_ID" else 3):
                yield Span(match.start(1), end, label, "certain", rule)
    for match in _SYMBOL_NUMBER.finditer(folded):
        for group in (1, 2):
            yield Span(match.start(group), match.end(group), "INSURANCE_ID", "certain", "number:insurance")
    for match in _CARD_NUMBER.finditer(folded):
        yield Span(match.start(1), match.end(1), "INSURANCE_ID", "certain", "number:insurance")
    for match in _ANY_NUMBER.finditer(folded):
        if sum(map(str.isdigit, match[1])) > 3:
            yield Span(match.start(1), match.end(), "PATIENT_ID", "likely", "number:word")
    for match in _MYNUMBER.finditer(folded):
        if is_mynumber(match[1] + match[3] + match[4]) and not _is_product(folded, match.start()):
            yield Span(match.start(), match.end(), "MYNUMBER", "certain", "mynumber:check-digit")
    for rule, confidence, bare in _BARE:
        for match in bare.finditer(folded):
            if not _is_product(folded, match.start()):
                yield Span(match.start(), match.end(), "PATIENT_ID", confidence, rule)


def _is_product(folded: str, start: int) -> bool:
    """Return whether a word before a number says that it belongs to a product or a publication."""
    return bool(_NOT_A_PERSONS.search(folded, max(0, start - 16), start))
