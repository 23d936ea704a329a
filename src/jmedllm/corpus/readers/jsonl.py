"""Lines of JSON, one document each."""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from jmedllm.corpus.documents import Document
from jmedllm.corpus.readers.compressed import open_any
from jmedllm.corpus.readers.decode import decode
from jmedllm.corpus.readers.inputs import ByteRange, Skipped, spelled
from jmedllm.corpus.readers.limits import MOST_LINE
from jmedllm.errors import InputError, unknown

_BUFFER = 1 << 20


def read_lines(
    byte_range: ByteRange, name: str, field: str, patient_field: str | None = None
) -> Iterator[Document | Skipped]:
    """Yield the documents of a range of lines, in order; a `Skipped` for each line that is not valid.

    Args:
        name: prefix for the ids of documents that have none.
        field: the key of the text.
        patient_field: the key of the patient, if that is wanted.

    Raises:
        InputError: the file cannot be read, or no further.
    """
    path = byte_range.path
    empty = byte_range.line == 1
    for number, raw in numbered_lines(byte_range):
        empty = False
        yield _from_line(path, name, number, raw, field, patient_field)
    if empty and not byte_range.start and byte_range.end in (None, path.stat().st_size):
        yield Skipped(spelled(path), "has no lines")


def numbered_lines(byte_range: ByteRange) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line that is not blank; no bytes for a line of more than `MOST_LINE` bytes.

    Raises:
        InputError: the file cannot be read, or no further. For a file in UTF-16 only its first range raises it.
    """
    if _is_utf_16(byte_range.path):
        if byte_range.start:
            return
        raise InputError("is UTF-16; convert it to UTF-8")
    with open_any(byte_range.path) as handle:
        if byte_range.start:
            handle.seek(byte_range.start)
        left = None if byte_range.end is None else byte_range.end - byte_range.start
        rest, number = _Line(), byte_range.line
        while data := handle.read(_BUFFER if left is None else min(_BUFFER, left)):
            left = None if left is None else left - len(data)
            first, *lines = data.split(b"\n")
            rest.add(first)
            for line in lines:
                if not rest.is_blank():
                    yield number, rest.content()
                rest, number = _Line(), number + 1
                rest.add(line)
        if not rest.is_blank():
            yield number, rest.content()


class _Line:
    """A line that is read in pieces, of which no more than `MOST_LINE` bytes are kept."""

    __slots__ = ("pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size <= MOST_LINE:
            self.pieces.append(piece)
        else:
            self.pieces.clear()

    def is_blank(self) -> bool:
        return self.size <= MOST_LINE and not any(piece.strip() for piece in self.pieces)

    def content(self) -> bytes:
        return b"".join(self.pieces)


def require_field(
    path: Path,
    field: str,
    option: str = "--field",
    what: str = "text field",
    types: tuple[type, ...] = (str,),
) -> None:
    """Check that the first line of a file, if it is an object, has text in `field`.

    A wrong `--field` must not cost a run that reports every single line.

    Args:
        path: the file.
        field: the key.
        option: the option that names the key, for the message.
        what: what the key is, for the message.
        types: what its value may be.

    Raises:
        InputError: the line has no such field; the message names the nearest one.
    """
    row = None
    with suppress(InputError, OSError):  # reported, with the file, when it is read
        number, raw = next(numbered_lines(ByteRange(path)), (1, b"null"))
        row = _parsed(raw or b"null")
    if isinstance(row, dict) and not isinstance(row.get(field), types):
        texts = [key for key, value in row.items() if isinstance(value, types)]
        raise InputError(f"{path}:{number}: {unknown(what, field, texts)}; choose it with {option}")


def _is_utf_16(path: Path) -> bool:
    with open_any(path) as handle:
        return handle.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE)


def _from_line(
    path: Path, name: str, number: int, raw: bytes, field: str, patient_field: str | None
) -> Document | Skipped:
    where = f"{spelled(path)}:{number}"
    if not raw:
        return Skipped(where, f"has more than {MOST_LINE >> 20} MB; divide the document")
    try:
        row = _parsed(raw)
    except InputError as error:
        return Skipped(where, str(error))
    if not isinstance(row, dict):
        return Skipped(where, f"expected a JSON object in braces, found {type(row).__name__}")
    text = row.get(field)
    if not isinstance(text, str):
        return Skipped(where, f"field {field!r} is not text")
    return Document(
        id=f"{name}:{number}" if row.get("id") is None else _whole_characters(str(row["id"])),
        text=_whole_characters(text),
        language=_string(row, "lang") or _string(row, "language"),
        source=_string(row, "source") or spelled(path.name),
        license=_string(row, "license"),
        title=_string(row, "title"),
        where=where,
        patient=_patient(row, patient_field) if patient_field else None,
    )


def _parsed(raw: bytes) -> Any:
    """Return the value of a line of JSON.

    Raises:
        InputError: the line is broken, or in an unknown encoding.
    """
    text = decode(raw)[0]
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"broken JSON: {error.msg}") from None
    except RecursionError:
        raise InputError("broken JSON: nested too deeply") from None
    except ValueError:
        raise InputError("broken JSON: a number of too many digits") from None


def _patient(row: dict[str, Any], key: str) -> str | None:
    """Return the patient of a line, who may be a number: 0 is one."""
    value = row.get(key)
    return None if value is None or isinstance(value, bool | list | dict) else _whole_characters(str(value)) or None


def _string(row: dict[str, Any], key: str) -> str | None:
    value = row.get(key)
    return _whole_characters(str(value)) if value else None


def _whole_characters(text: str) -> str:
    """Return the text without unpaired surrogates, which JSON can escape but UTF-8 cannot encode."""
    with suppress(UnicodeEncodeError):
        text.encode()
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")
