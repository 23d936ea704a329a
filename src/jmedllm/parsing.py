"""Decodes text and parses JSON; errors name the file and the line."""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError

_ENCODINGS = (("EUC-JP", "euc_jp", "EUC-JP"), ("Shift_JIS", "cp932", "CP932"))
"""Encodings of Japanese text besides UTF-8: name, codec of Python, name for iconv. EUC-JP is tried first: most of its
bytes are half-width katakana in Shift_JIS, while Shift_JIS is hardly ever valid EUC-JP."""

_JAPANESE = re.compile("[\u3040-\u30ff]|[\u4e00-\u9fff]{2}")
"""Minimum evidence for Japanese, because a single accented letter of another encoding may decode as one kanji."""

_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")

_ZEROS = 0.05
"""Minimum share of zero bytes in UTF-16; even long Japanese texts in JSON have it."""

_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|-?[0-9]+', re.DOTALL)
"""The tokens of JSON text by which a position in it is found."""


_COLON = re.compile(r"[ \t\r\n]*:")


class EncodingError(InputError):
    """A file is in a known encoding other than UTF-8, so none of its lines can be read."""


def decode_utf8(raw: bytes, path: Path, number: int = 1) -> str:
    """Decode one line, or a whole file, without a byte order mark at its start.

    Args:
        raw: the bytes.
        path: the file, for messages.
        number: line of the file at which `raw` starts, from 1.

    Raises:
        EncodingError: it is in another encoding; the message names it and the line.
        InputError: it is not UTF-8, or has a zero byte; the message names the line.
    """
    if (number == 1 and raw.startswith(_BYTE_ORDER_MARKS)) or raw.count(b"\0") > len(raw) * _ZEROS:
        raise EncodingError(_not_utf8(path, number, "it looks like UTF-16", "UTF-16"))
    if (zero := raw.find(b"\0")) >= 0:
        line = number + raw.count(b"\n", 0, zero)
        raise InputError(f"{path}:{line}: has a zero byte; remove it")
    try:
        return raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = number + raw.count(b"\n", 0, error.start)
        for name, codec, known in _ENCODINGS:
            if _is_in(codec, raw):
                raise EncodingError(_not_utf8(path, line, f"it looks like {name}", known)) from None
        raise InputError(_not_utf8(path, line, error.reason, "ENCODING")) from None


def _is_in(codec: str, raw: bytes) -> bool:
    try:
        return bool(_JAPANESE.search(raw.decode(codec)))
    except UnicodeDecodeError:
        return False


def _not_utf8(path: Path, line: int, what: str, encoding: str) -> str:
    convert = f"iconv -f {encoding} -t UTF-8 {path.name}"
    return f"{path}:{line}: not UTF-8: {what}; convert the file to UTF-8: {convert}"


class _RepeatedKeyError(ValueError):
    """A JSON object has a key twice."""


def _distinct(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    members = list(pairs)
    found = dict(members)
    if len(found) != len(members):
        raise _RepeatedKeyError
    return found


def parse_json(text: str, path: Path, number: int = 1) -> Any:
    """Parse a JSON text.

    Args:
        text: one line, or a whole file.
        path: the file, for messages.
        number: line of the file at which `text` starts, from 1.

    Raises:
        InputError: the text is not JSON, an object has a key twice, a number has thousands of digits, the nesting
            is too deep, or an escape is half a character. The message names file and line.
    """
    try:
        return _checked(json.loads(text, object_pairs_hook=_distinct), text)
    except json.JSONDecodeError as error:
        line, problem = number + error.lineno - 1, f"broken JSON: {error.msg}"
    except RecursionError:
        line, problem = number, "broken JSON: nested too deeply"
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        line, problem = number + _line_of(text, half), f"{half} is half a character"
    except _RepeatedKeyError:
        key, place = next(_repeated_keys(text))
        line, problem = number + text.count("\n", 0, place), f"key {key} is given twice in one object"
    except ValueError:  # Python converts no number of so many digits
        place = _long_number(text)
        line, problem = number + text.count("\n", 0, place), "a number of thousands of digits"
    raise InputError(f"{path}:{line}: {problem}; fix or remove the line")


def _checked(value: Any, text: str) -> Any:
    """Return the value after checking that its strings can be encoded as UTF-8."""
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _line_of(text: str, half: str) -> int:
    return text.count("\n", 0, max(text.lower().find(half), 0))


def _repeated_keys(text: str) -> Iterator[tuple[str, int]]:
    """Yield repeated keys of objects, as written, with their positions."""
    keys: list[set[str] | None] = []
    for match in _TOKENS.finditer(text):
        token = match[0]
        if token in "{[":
            keys.append(set() if token == "{" else None)
        elif token in "}]":
            keys.pop()
        elif token[0] == '"' and keys and keys[-1] is not None and _COLON.match(text, match.end()):
            name = json.loads(token)
            if name in keys[-1]:
                yield token, match.start()
            keys[-1].add(name)


def _long_number(text: str) -> int:
    most = sys.get_int_max_str_digits()
    return next((m.start() for m in _TOKENS.finditer(text) if m[0][0] not in '"{}[]' and len(m[0]) > most), 0)
