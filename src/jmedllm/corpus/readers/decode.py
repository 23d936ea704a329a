"""Detects the encoding of Japanese and English files, and decodes them."""

import re
from contextlib import suppress

from jmedllm.corpus.readers.windows_encodings import WINDOWS
from jmedllm.errors import InputError

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),  # before UTF-16, whose mark it begins with
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_JIS_ESCAPE = re.compile(rb"\x1b(?:\$(?:[@AB]|\([CDOPQ])|\(I)")
_JIS = ((b"\x1b(I", "iso2022_jp_ext"), (b"\x1b$(Q", "iso2022_jp_2004"), (b"\x1b$(O", "iso2022_jp_3"))
"""Escapes that only one of Python's codecs of ISO-2022-JP knows; the first starts half-width kana."""

_EUC_KANA = re.compile(rb"(?:\x8e[\xa1-\xdf]){3}")
"""Half-width kana of EUC-JP, which are rare kanji of one row in Shift-JIS."""

_BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
_NAMES = {"cp932": "Shift-JIS", "euc_jp": "EUC-JP", "cp1252": "Windows-1252", "utf-8": "UTF-8"}
"""Of two that are equally likely, the first is used. EUC-JP is decoded with the characters of Windows."""

_EVIDENCE = 20_000
"""Characters of a text that are scored, from the first beyond ASCII; more would not change the result."""

_KINDS: tuple[tuple[re.Pattern[str], float], ...] = (
    (re.compile(r"[\u3040-\u30ff\u3000-\u3002\u300c-\u300f\u3010\u3011]"), 2.0),  # kana, 、。「」
    (re.compile(r"[\uff00-\uff5e\u00d7\u2103\u2190-\u2193\u25a0-\u25ef\u2460-\u2473]"), 1.0),
    (re.compile(r"[\u2116\u2121\u2160-\u216b\u2170-\u217b\u3220-\u33ff]"), 1.0),  # №, Ⅲ, ㈱, ㎎
    (re.compile(r"[\u4e00-\u9fff]"), 1.0),
    (re.compile(r"(?<=[a-zA-Z])[\u4e00-\u9fff](?=[a-zA-Z ])"), -1.0),  # it’s, misread as it痴
    (re.compile(r"(?<![^\x00-\x7f])[\u00b0-\u00ff\u2013-\u2026](?![^\x00-\x7f])"), 1.5),  # naïve, it’s
    (re.compile(r"[\uff61-\uff9f]"), -1.0),  # half-width kana: what every wrong guess is full of
    (re.compile(r"[\u7e3a\u7e67\u7e5d\u7ab6]|\u00e2\u20ac"), -3.0),  # 縺, 繧, 繝, 窶, â€: UTF-8 misread
    (re.compile(r"[\u0080-\u009f\ue000-\uf8ff]"), -5.0),
    (re.compile("\u2021(?=[@-z])"), -2.0),  # ‡r, ‡@: ㎎ and ① misread
    (re.compile(r"\ufffd"), -3.0),  # a broken byte
)
"""Scores of characters beyond ASCII, in their context, for an encoding. The highest mean wins."""


def decode(raw: bytes) -> tuple[str, str]:
    """Decode a whole text; return it and the name of its encoding.

    A byte order mark or the escapes of ISO-2022-JP decide. Otherwise valid UTF-8 is UTF-8, since no Japanese text in
    another encoding is valid UTF-8. Otherwise UTF-8, CP932, EUC-JP and Windows-1252 are scored by the kinds of
    characters that they decode, broken ones included: one broken byte in UTF-8 must not select another encoding. A
    text that does not decode in full is refused; nothing is replaced by U+FFFD.

    Raises:
        InputError: no encoding decodes it, or the most likely one fails at a broken byte.
    """
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return _strictly(raw, name), name.removesuffix("-sig")
    if raw.isascii() and _JIS_ESCAPE.search(raw):
        name = next((name for escape, name in _JIS if escape in raw), "iso2022_jp_2")
        return _strictly(raw, name), "iso2022_jp"
    try:
        return raw.decode("utf-8"), "utf-8"
    except UnicodeDecodeError as error:
        cut = error.reason == "unexpected end of data" and error.start < len(raw) - 1
    name = "utf-8" if cut else _likeliest(raw)
    try:
        return raw.decode(name, WINDOWS), name
    except UnicodeDecodeError as error:
        place = f"a broken byte at offset {error.start}"
        raise InputError(f"is {_NAMES[name]} with {place}; fix or replace the file") from error


def _likeliest(raw: bytes) -> str:
    if _EUC_KANA.search(raw) and _reads(raw, "euc_jp"):
        return "euc_jp"
    beyond = _BEYOND_ASCII.search(raw)
    start = max(0, beyond.start() - 1) if beyond else 0
    readings = {name: _reading(raw, name) for name in _NAMES}
    likelihoods = {name: _likelihood(text[start : start + _EVIDENCE]) for name, text in readings.items()}
    name = max(_NAMES, key=lambda name: (likelihoods[name], "\ufffd" not in readings[name]))
    if b"\0" in raw[:_EVIDENCE] or ("\ufffd" in readings[name] and likelihoods[name] <= 0):
        raise InputError("is not text in UTF-8, Shift-JIS, EUC-JP or Windows-1252; convert it to UTF-8")
    return name


def _reads(raw: bytes, name: str) -> bool:
    with suppress(UnicodeDecodeError):
        raw.decode(name, WINDOWS)
        return True
    return False


def _reading(raw: bytes, name: str) -> str:
    with suppress(UnicodeDecodeError):  # the handler is slow where most bytes are broken
        return raw.decode(name, WINDOWS)
    return raw.decode(name, "replace")


def _strictly(raw: bytes, name: str) -> str:
    try:
        return raw.decode(name, WINDOWS)
    except UnicodeDecodeError as error:
        shown = "ISO-2022-JP" if name.startswith("iso2022") else name
        raise InputError(f"begins as {shown} but is not: {error.reason}; convert it to UTF-8") from error


def _likelihood(text: str) -> float:
    beyond = sum(character > "\x7f" for character in text)
    return sum(weight * len(pattern.findall(text)) for pattern, weight in _KINDS) / max(1, beyond)
