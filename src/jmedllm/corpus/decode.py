"""From bytes to text: which of the encodings that Japanese and English files come in is this?"""

import re

from jmedllm.errors import InputError

_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_JIS_ESCAPE = re.compile(rb"\x1b\$[@B]")
_LEGACY = ("cp932", "euc_jp", "cp1252")
"""Shift-JIS as Windows writes it, EUC-JP, and the Western encoding of Windows; the first wins a tie."""

_EVIDENCE = 20_000
"""Bytes of a text that are judged: more would not change the verdict."""

_KINDS: tuple[tuple[re.Pattern[str], float], ...] = (
    (re.compile(r"[\u3040-\u30ff\u3000-\u3002\u300c-\u300f\u3010\u3011]"), 2.0),  # kana, 、。「」
    (re.compile(r"[\uff00-\uff5e\u00d7\u2103\u2190-\u2193\u25a0-\u25ef\u2460-\u2473]"), 1.0),
    (re.compile(r"[\u4e00-\u9fff]"), 1.0),
    (re.compile(r"(?<=[a-zA-Z])[\u4e00-\u9fff](?=[a-zA-Z ])"), -1.0),  # it’s, misread as it痴
    (re.compile(r"(?<![^\x00-\x7f])[\u00b0-\u00ff\u2013-\u2026](?![^\x00-\x7f])"), 1.5),  # naïve, it’s
    (re.compile(r"[\uff61-\uff9f]"), -1.0),  # half-width kana: what every wrong guess is full of
    (re.compile(r"[\u0080-\u009f\ue000-\uf8ff\ufffd]"), -5.0),
)
"""What characters beyond ASCII say for an encoding, where they stand; the mean decides."""


def decode(raw: bytes) -> tuple[str, str]:
    """Decode a whole text; returns it and the name of its encoding.

    A byte order mark or the escapes of ISO-2022-JP say it all. Valid UTF-8 is UTF-8: no Japanese text in another
    encoding is. Otherwise each of CP932, EUC-JP and Windows-1252 that reads the bytes without an error is judged
    by the kind of characters it makes of them. A document is whole or not read: nothing is replaced by U+FFFD.

    Raises:
        InputError: no encoding reads it.
    """
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return _strictly(raw, name), name.removesuffix("-sig")
    if _JIS_ESCAPE.search(raw[:_EVIDENCE]):
        return _strictly(raw, "iso2022_jp_2"), "iso2022_jp"
    try:
        return raw.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        pass
    found = {name: text for name in _LEGACY if (text := _maybe(raw, name)) is not None}
    if not found or b"\0" in raw[:_EVIDENCE]:
        raise InputError("is not text in UTF-8, Shift-JIS, EUC-JP or Windows-1252; convert it to UTF-8")
    name = max(found, key=lambda name: _likelihood(found[name][:_EVIDENCE]))
    return found[name], name


def _maybe(raw: bytes, name: str) -> str | None:
    try:
        return raw.decode(name)
    except UnicodeDecodeError:
        return None


def _strictly(raw: bytes, name: str) -> str:
    try:
        return raw.decode(name)
    except UnicodeDecodeError as error:
        raise InputError(f"begins as {name} but is not: {error.reason}; convert it to UTF-8") from error


def _likelihood(text: str) -> float:
    beyond = sum(character > "\x7f" for character in text)
    return sum(weight * len(pattern.findall(text)) for pattern, weight in _KINDS) / max(1, beyond)
