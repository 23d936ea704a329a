"""Decodes the characters of Windows in EUC-JP and ISO-2022-JP that Python's codecs do not know: ㎎, ①, ㈱, Ⅲ, ㌘, 髙.

Most files in EUC-JP or ISO-2022-JP are CP51932, eucJP-ms, CP50220 or CP50221: the same codes, with the rows that NEC
and IBM added to JIS X 0208. These rows are those of CP932 at other positions. The codec of the standard decodes the
text, and an error handler decodes the codes that the standard leaves empty by CP932.
"""

import codecs
from contextlib import suppress

WINDOWS = "jmedllm.windows"
"""Error handler that decodes the characters of Windows and raises for all others."""

_ROWS = frozenset((13, 89, 90, 91, 92))
"""Rows of NEC's own characters, and of IBM's as NEC selected them."""

_HIGH = 0xA0
_THREE_BYTES = 0x8F


def _of_row(row: int, cell: int) -> str:
    """Return the character of CP932 at a row and cell of the table of 94 by 94; empty if there is none."""
    lead = (row + 1) // 2 + (0x80 if row <= 62 else 0xC0)
    trail = cell + 0x9E if row % 2 == 0 else cell + 0x3F + (cell > 0x3F)
    with suppress(UnicodeDecodeError):
        return bytes((lead, trail)).decode("cp932")
    return ""


def _ibm_kanji() -> str:
    """Return IBM's kanji that JIS X 0212 lacks, in the order of CP932."""
    kanji = "".join(_of_row(row, cell) for row in range(115, 120) for cell in range(1, 95))
    return "".join(sign for sign in kanji if "\u4e00" <= sign <= "\ufaff" and not sign.encode("euc_jp", "ignore"))


_OF_IBM = "ⅰⅱⅲⅳⅴⅵⅶⅷⅸⅹⅠⅡⅢⅣⅤⅥⅦⅧⅨⅩ＇＂㈱№℡" + _ibm_kanji()
_FIRST_OF_IBM = 82 * 94 + 82
"""Position of the first of these in the table of three bytes: row 83, cell 83."""


def _read(raw: bytes, start: int) -> tuple[str, int]:
    """Return the character of Windows at an offset, or "", and its number of bytes."""
    if raw[start] == _THREE_BYTES:
        row, cell = (byte - _HIGH for byte in (*raw[start + 1 : start + 3], 0, 0)[:2])
        place = (row - 1) * 94 + cell - 1 - _FIRST_OF_IBM
        return (_OF_IBM[place], 3) if 0 <= place < len(_OF_IBM) and 1 <= cell <= 94 else ("", 3)
    lead, trail = (*raw[start : start + 2], 0)[:2]
    if lead >> 7 != trail >> 7:
        return "", 2
    row, cell = (lead & 0x7F) - 0x20, (trail & 0x7F) - 0x20
    return (_of_row(row, cell), 2) if row in _ROWS and 1 <= cell <= 94 else ("", 2)


def _windows(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError) and error.encoding.startswith(("euc_jp", "iso2022")):
        is_euc = error.encoding == "euc_jp"
        if (error.object[error.start] >= 0x80) == is_euc:
            character, length = _read(error.object, error.start)
            if character:
                return character, error.start + length
    raise error


codecs.register_error(WINDOWS, _windows)
