"""Reads lists of known people: CSV files of any columns, as hospital systems and Excel write them."""

import csv
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jmedllm.corpus.deidentify.spans import Label
from jmedllm.errors import InputError

COLUMNS: dict[str, Label] = {
    "name": "NAME",
    "surname": "NAME",
    "given_name": "NAME",
    "kana": "NAME",
    "surname_kana": "NAME",
    "given_name_kana": "NAME",
    "romaji": "NAME",
    "id": "PATIENT_ID",
    "phone": "PHONE",
    "address": "ADDRESS",
    "email": "EMAIL",
    "birth_date": "DATE",
}
"""What a column may be, and the kind of identifier that it is."""

_HEADERS = {
    "name": "氏名 患者氏名 患者名 姓名 名前 お名前 漢字氏名 氏名(漢字) 職員氏名 職員名 医師名 医師氏名 看護師名 "
    "patientname fullname",
    "surname": "姓 苗字 名字 lastname familyname",
    "given_name": "名 firstname givenname",
    "kana": "カナ 氏名カナ カナ氏名 患者氏名カナ 患者カナ氏名 フリガナ ふりがな よみ 読み 氏名(カナ) 氏名(かな) "
    "かな氏名 ヨミガナ よみがな",
    "surname_kana": "姓カナ 姓(カナ) セイ せい 姓かな",
    "given_name_kana": "名カナ 名(カナ) メイ めい 名かな",
    "romaji": "ローマ字 ローマ字氏名 氏名(ローマ字) 英字氏名",
    "id": "患者id 患者番号 患者no 患者no. id カルテ番号 カルテno 診察券番号 職員番号 職員id patientid mrn",
    "phone": "電話 電話番号 tel 連絡先 携帯 携帯電話 携帯番号 携帯電話番号 phonenumber fax fax番号",
    "address": "住所 現住所 自宅住所",
    "email": "メール メールアドレス e-mail mail emailaddress",
    "birth_date": "生年月日 誕生日 dob dateofbirth birthdate",
}
_KIND_OF = {header: kind for kind, headers in _HEADERS.items() for header in headers.split()} | {
    re.sub("_", "", kind): kind for kind in COLUMNS
}

KnownRow = Mapping[str, str]
"""Values of a row by the key of `COLUMNS`; empty ones are left out."""


@dataclass(frozen=True, slots=True)
class KnownList:
    """A list of known people.

    Attributes:
        used: what each column is that is used, by its header.
        unused: headers of the other columns.
    """

    rows: tuple[KnownRow, ...] = field(repr=False)
    used: Mapping[str, str]
    unused: tuple[str, ...]


def read_list(path: Path, columns: Mapping[str, str]) -> KnownList:
    """Read a list.

    Args:
        path: a CSV file with a header, separated by commas, semicolons or tabs, in UTF-8, UTF-16 or Windows' Japanese
            encoding.
        columns: what further columns are: their header, and a key of `COLUMNS`.

    Raises:
        InputError: the file cannot be read, or no column of it is known; the message lists the headers found.
    """
    lines = csv.reader(io.StringIO(_decoded(path), newline=""), delimiter=_delimiter(_decoded(path)))
    try:
        headers = next(lines, [])
        named = _KIND_OF | {_plain(header): kind for header, kind in columns.items()}
        kinds = [named.get(_plain(header)) for header in headers]
        if not any(kinds):
            found = ", ".join(headers) or "none"
            raise InputError(
                f"--known {path}: no column is known (found: {found}); name one, such as --known-column HEADER=name"
            )
        used = {header: kind for header, kind in zip(headers, kinds, strict=True) if kind}
        rows = tuple(row for cells in lines if (row := _row(kinds, cells)))
        return KnownList(rows, used, tuple(header for header in headers if header not in used))
    except csv.Error as error:
        raise InputError(f"--known {path}:{lines.line_num}: {error}; save it as CSV") from None


def _row(kinds: Sequence[str | None], cells: Sequence[str]) -> KnownRow:
    row: dict[str, str] = {}
    for kind, cell in zip(kinds, cells, strict=False):
        if kind and cell.strip():
            row.setdefault(kind, cell.strip())
    return row


def _plain(header: str) -> str:
    return re.sub(r"[\s_]", "", unicodedata.normalize("NFKC", header)).lower()


def _delimiter(text: str) -> str:
    header = text.partition("\n")[0]
    return max(",\t;", key=header.count)


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"--known {path}: cannot be read: {error.strerror}") from error
    for encoding in ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp932"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise InputError(f"--known {path}: neither UTF-8 nor Windows' Japanese encoding (CP932); save it as UTF-8")
