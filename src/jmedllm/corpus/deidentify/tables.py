"""Finds identifiers in tables by the headers of their columns, and in HL7 messages by the numbers of their fields."""

import re
from collections.abc import Iterator, Sequence

from jmedllm.corpus.deidentify.spans import Label, Span

_SEPARATORS = (",", "\t", "|", ";")
_HEADERS: tuple[tuple[Label, str], ...] = (
    (
        "NAME",
        r"(?:患者|利用者|受診者|本人|医師|職員|家族|保護者|担当者?|スタッフ|被保険者|児)?の?(?:氏名|姓名|名前"
        r"|カナ氏名|氏名カナ)(?:[(（].*[)）])?|姓|名"
        r"|(?:患者|利用者|受診者)名|(?:カナ|フリガナ|ふりがな|かな|ヨミ|よみ)(?:氏名)?|担当[医者]?"
        r"|担当(?:医師|看護師)|主治医|術者|執刀医?|依頼医|読影医|検査者|記録者|続柄氏名"
        r"|(?:patient|full|first|last|given|family|doctor|physician)?[ _]?name|patient|surname|physician|attending",
    ),
    (
        "DATE",
        r"生年月日|年月日|日付|日時|.{0,6}日|dob|.*date(?: of birth)?|birth ?day|admitted|discharged",
    ),
    (
        "PATIENT_ID",
        r"(?:患者|カルテ|診察券|受付|検体|入院|オーダー|登録|症例|整理|職員|伝票)(?:番号|id|no\.?|ｎｏ)|id"
        r"|(?:pt|patient|chart)[ _]?(?:id|no\.?)|mrn|番号",
    ),
    ("PHONE", r".{0,4}(?:電話|携帯|連絡先)(?:番号)?|tel\.?|phone(?: number)?|mobile"),
    ("FAX", r"fax.{0,2}|ファ[ック]?クス(?:番号)?"),
    ("ADDRESS", r"(?:現|患者)?住所|居住地|所在地|(?:home )?address"),
    ("POSTAL", r"郵便番号|〒|zip(?: ?code)?|postal ?code"),
    ("EMAIL", r"(?:電子)?メール(?:アドレス)?|e-?mail"),
    (
        "HOSPITAL",
        r"(?:かかりつけ)?医療機関(?:名)?|紹介[元先](?:医療機関)?|病院(?:名)?|施設名?|搬送先|転院先|hospital|facility",
    ),
    ("INSURANCE_ID", r"(?:被?保険者|受給者|負担者|保険証)(?:番号|no\.?)|記号・?番号|ssn"),
    ("ORG", r"勤務先|職場|学校名?|employer"),
)
_COLUMN = tuple((label, re.compile(pattern, re.IGNORECASE)) for label, pattern in _HEADERS)
_IS_VALUE: dict[Label, "re.Pattern[str]"] = {
    "NAME": re.compile(r"[^\W\d_][^\d]{0,24}"),
    "PATIENT_ID": re.compile(r"[A-Za-z-]{0,5}\d[\dA-Za-z -]{2,}"),
    "HOSPITAL": re.compile(r"\D{3,}.*"),
    "ORG": re.compile(r"\D{3,}.*"),
    "ADDRESS": re.compile(r".{4,}"),
}
_HAS_DIGIT = re.compile(r".*\d.*")
_NOTHING = re.compile(
    r"(?:なし|無し?|不明|同上|未定|未|―|[-ー−/・*?？:\s]*|none|n/?a|unknown|本人|自費|他院|当院|自宅)", re.IGNORECASE
)
_KINDS: tuple[Label, ...] = ("NAME", "PATIENT_ID")
"""A table is one of people only if it has such a column."""

_HL7: dict[str, dict[int, Label]] = {
    "PID": {
        2: "PATIENT_ID", 3: "PATIENT_ID", 4: "PATIENT_ID", 5: "NAME", 6: "NAME", 7: "DATE", 9: "NAME", 11: "ADDRESS",
        13: "PHONE", 14: "PHONE", 18: "ACCOUNT_ID", 19: "INSURANCE_ID", 20: "LICENSE_ID", 21: "PATIENT_ID",
    },
    "NK1": {2: "NAME", 4: "ADDRESS", 5: "PHONE", 6: "PHONE", 13: "ORG", 30: "NAME", 31: "PHONE"},
    "PV1": {7: "NAME", 8: "NAME", 9: "NAME", 17: "NAME", 19: "PATIENT_ID", 44: "DATE", 45: "DATE", 52: "NAME"},
    "ORC": {9: "DATE", 10: "NAME", 11: "NAME", 12: "NAME", 14: "PHONE"},
    "OBR": {6: "DATE", 7: "DATE", 8: "DATE", 10: "NAME", 14: "DATE", 16: "NAME", 17: "PHONE", 28: "NAME", 32: "NAME"},
    "OBX": {14: "DATE", 16: "NAME"},
    "IN1": {4: "ORG", 16: "NAME", 18: "DATE", 19: "ADDRESS", 36: "INSURANCE_ID", 49: "INSURANCE_ID"},
    "GT1": {3: "NAME", 5: "ADDRESS", 6: "PHONE", 8: "DATE"},
}  # fmt: skip
"""Fields that identify a person, by segment (HL7 version 2.5, chapters 3 to 7)."""

_SEGMENT = re.compile(r"(?m)^[ ]?([A-Z][A-Z\d]{2})\|.*$")
_COMPONENT = re.compile(r"[^|^~&]+")
_CODE = re.compile(r"[A-Z0-9]{1,3}")


def find_in_tables(folded: str) -> Iterator[Span]:
    """Yield the cells of columns whose header says that they identify a person, and such fields of HL7 messages."""
    yield from _hl7(folded)
    columns: dict[int, Label] = {}
    separator, width, at = "", 0, 0
    for line in folded.split("\n"):
        cells = line.split(separator) if separator else []
        if columns and len(cells) == width:
            yield from _cells(cells, columns, at)
        else:
            separator, width, columns = _header(line)
        at += len(line) + 1


def _header(line: str) -> tuple[str, int, dict[int, Label]]:
    """Return the separator, the number of cells, and the kinds of the columns of a header; no columns if none."""
    for separator in _SEPARATORS:
        cells = line.split(separator)
        if not 2 <= len(cells) <= 60 or len(line) > 1000:
            continue
        columns = {place: label for place, cell in enumerate(cells) if (label := _kind(cell))}
        if len(columns) > 1 and any(label in _KINDS for label in columns.values()):
            return separator, len(cells), columns
    return "", 0, {}


def _kind(cell: str) -> Label | None:
    text = cell.strip(' "*')
    return next((label for label, pattern in _COLUMN if text and pattern.fullmatch(text)), None)


def _cells(cells: Sequence[str], columns: dict[int, Label], at: int) -> Iterator[Span]:
    """Yield the values of one row that begins at `at`."""
    for place, cell in enumerate(cells):
        text = cell.strip(' "*')
        label = columns.get(place)
        if label and not _NOTHING.fullmatch(text) and _IS_VALUE.get(label, _HAS_DIGIT).fullmatch(text):
            start = at + cell.index(text)
            yield Span(start, start + len(text), label, "certain", "table")
        at += len(cell) + 1


def _hl7(folded: str) -> Iterator[Span]:
    """Yield the components of the fields of HL7 messages that identify a person, but no codes of types."""
    for segment in _SEGMENT.finditer(folded):
        fields = _HL7.get(segment[1], {})
        at = segment.start()
        for place, value in enumerate(segment[0].split("|") if fields else ()):
            if label := fields.get(place):
                yield from _components(value, at, label)
            at += len(value) + 1


def _components(value: str, at: int, label: Label) -> Iterator[Span]:
    for part in _COMPONENT.finditer(value):
        text = part[0].strip()
        if not text or _CODE.fullmatch(text):
            continue
        kind: Label = "PATIENT_ID" if label == "NAME" and text.isdigit() else label
        size = 8 if kind == "DATE" and text[:8].isdigit() else len(text)  # the time is kept
        start = at + value.index(text, part.start())
        yield Span(start, start + size, kind, "certain", "hl7")
