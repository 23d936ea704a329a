"""Normalizes characters that have several forms of the same meaning.

Full compatibility normalization (NFKC) would change the meaning of medical text: x² becomes x2, ½ becomes 1⁄2, ①
becomes 1, ㎎ and ℃ become letters, and the full-width （）：of Japanese become ASCII. Therefore only characters that
differ in form alone are mapped, by the tables of Unicode. All others are kept, unit and chemical signs among them.
"""

import re
import unicodedata
from collections.abc import Iterator

_IN_FORM_ALONE = (
    (0xFF10, 0xFF19),  # full-width digits
    (0xFF21, 0xFF3A),  # full-width letters
    (0xFF41, 0xFF5A),
    (0x2F00, 0x2FD5),  # radicals, which PDF files have in place of characters that look the same
    (0x2E9F, 0x2E9F),
    (0x2EF3, 0x2EF3),
    (0xF900, 0xFAD9),  # compatibility ideographs
    (0xFB00, 0xFB06),  # ligatures: ﬁ, ﬂ
)
_FULL_WIDTH_SIGNS = "％＋－＝／＊＆＠＃＄＼＾＿｜"
"""Full-width forms that are not punctuation of Japanese sentences, unlike （），．：；！？［］｛｝～."""

_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_LINE_ENDS = "\r\x0b\x85\u2028\u2029"
_INVISIBLE = ((0xAD, 0xAD), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x2064), (0xFEFF, 0xFEFF))


def _mapped() -> Iterator[tuple[int, str | None]]:
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0xFFF9, 0xFFFC), 0xFFFE, 0xFFFF):
        yield code, None
    for first, last in _IN_FORM_ALONE:
        for code in range(first, last + 1):
            yield code, unicodedata.normalize("NFKC", chr(code))
    for sign in _FULL_WIDTH_SIGNS:
        yield ord(sign), unicodedata.normalize("NFKC", sign)
    for space in _SPACES:
        yield ord(space), " "
    for end in _LINE_ENDS:
        yield ord(end), "\n"
    for first, last in _INVISIBLE:
        for code in range(first, last + 1):
            yield code, None
    for kept in "\n\t\f":
        yield ord(kept), kept


_TABLE = dict(_mapped())
_BROKEN_WORD = re.compile(r"\u00ad(?=\n)")
_HALF_WIDTH_KANA = re.compile(r"[\uff61-\uff9f]+")
_APART = re.compile(r"[^\u2126\u212a\u212b]+")
"""All but the signs of ohm, kelvin and ångström, which canonical normalization would replace by letters."""

_BETWEEN_DIGITS = re.compile(r"(?<=[0-9])[．，：](?=[0-9])")
_COMPARING = re.compile(r"[＜＞](?:(?<=＜)[^＜＞\n、。，,]+＞)?")
"""＜ and ＞ in a comparison (p＜0.05). Brackets (＜A＞群) are kept, since they would look like tags."""

_ASCII = str.maketrans("．，：＜＞", ".,:<>")


def normalize(text: str) -> str:
    """Normalize each character. Idempotent; line ends become "\\n", and page breaks ("\\f") are kept."""
    text = _BROKEN_WORD.sub("\u2010", text.replace("\r\n", "\n")).translate(_TABLE)
    text = _HALF_WIDTH_KANA.sub(lambda run: unicodedata.normalize("NFKC", run[0]), text)
    text = _COMPARING.sub(lambda sign: sign[0] if sign[0][1:] else sign[0].translate(_ASCII), text)
    text = _APART.sub(lambda run: unicodedata.normalize("NFC", run[0]), text)
    return _BETWEEN_DIGITS.sub(lambda sign: sign[0].translate(_ASCII), text)
