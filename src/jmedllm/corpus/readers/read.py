"""Raw medical text from files: text, Markdown, lines of JSON, HTML, PDF, and these compressed."""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.corpus.readers.compressed import open_any
from jmedllm.corpus.readers.decode import decode
from jmedllm.corpus.readers.html import html_text
from jmedllm.corpus.readers.inputs import LINES, Unread, find_files, kind, spelled
from jmedllm.corpus.readers.pdf import pdf_text
from jmedllm.errors import InputError, unknown

_BUFFER = 1 << 20


@dataclass(frozen=True, slots=True)
class Document:
    """One text. `language` is "ja", "en", "other" or None where nothing says it.

    Attributes:
        where: file, and line in it, that the text was read from.
    """

    id: str
    text: str
    language: str | None = None
    source: str | None = None
    license: str | None = None
    title: str | None = None
    where: str = ""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A file, or a stretch of whole lines of one.

    Attributes:
        start: first byte.
        end: byte behind the last; None for a whole file.
        line: number of the first line, from 1.
        name: what documents' ids begin with that have none of their own; the file's name if empty.
    """

    path: Path
    start: int = 0
    end: int | None = None
    line: int = 1
    name: str = ""


def read_documents(path: Path, field: str = "text") -> Iterator[Document]:
    """The documents of a file or of all files below a folder, as they are and without a gap.

    Raises:
        InputError: nothing readable is there, or something of it cannot be read; names file and line.
    """
    for file, name in find_files([path]).files.items():
        for found in read(ByteRange(file, name=name), field):
            if isinstance(found, Unread):
                raise InputError(f"{found.where}: {found.reason}")
            yield found


def read(extent: ByteRange, field: str = "text") -> Iterator[Document | Unread]:
    """The documents of a file or a stretch of it; what cannot be read is told, and the rest is read on.

    Args:
        field: the key that holds the text in lines of JSON.
    """
    path, name = extent.path, extent.name or spelled(extent.path.name)
    try:
        if kind(path) in LINES:
            empty = extent.line == 1
            for number, raw in numbered_lines(extent):
                empty = False
                yield _from_line(path, name, number, raw, field)
            if empty and not extent.start and extent.end in (None, path.stat().st_size):
                yield Unread(spelled(path), "holds no line")
        else:
            with open_any(path) as handle:
                yield from _from_file(path, name, handle.read())
    except InputError as error:
        yield Unread(spelled(path), str(error))
    except OSError as error:
        yield Unread(spelled(path), f"cannot be read: {error.strerror}")


def numbered_lines(extent: ByteRange) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line that is not blank.

    Raises:
        InputError: the file cannot be read, or no further; of a file in UTF-16 its first stretch says so.
    """
    if _is_utf_16(extent.path):
        if extent.start:
            return
        raise InputError("is UTF-16; convert it to UTF-8")
    with open_any(extent.path) as handle:
        if extent.start:
            handle.seek(extent.start)
        left = None if extent.end is None else extent.end - extent.start
        rest, number = b"", extent.line
        while data := handle.read(_BUFFER if left is None else min(_BUFFER, left)):
            left = None if left is None else left - len(data)
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.strip():
                    yield number, line
                number += 1
        if rest.strip():
            yield number, rest


def _is_utf_16(path: Path) -> bool:
    with open_any(path) as handle:
        return handle.read(2) in (BOM_UTF16_LE, BOM_UTF16_BE)


def _from_line(path: Path, name: str, number: int, raw: bytes, field: str) -> Document | Unread:
    where = f"{spelled(path)}:{number}"
    try:
        row = _parsed(raw)
    except InputError as error:
        return Unread(where, str(error))
    if not isinstance(row, dict):
        return Unread(where, f"expected a JSON object in braces, found {type(row).__name__}")
    text = row.get(field)
    if not isinstance(text, str):
        return Unread(where, f"field {field!r} is no text")
    return Document(
        id=f"{name}:{number}" if row.get("id") is None else _whole_characters(str(row["id"])),
        text=_whole_characters(text),
        language=_said(row, "lang") or _said(row, "language"),
        source=_said(row, "source") or spelled(path.name),
        license=_said(row, "license"),
        title=_said(row, "title"),
        where=where,
    )


def _parsed(raw: bytes) -> Any:
    """The value of a line of JSON.

    Raises:
        InputError: it is broken, or in no encoding that is known.
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


def _said(row: dict[str, Any], key: str) -> str | None:
    value = row.get(key)
    return _whole_characters(str(value)) if value else None


def _whole_characters(text: str) -> str:
    """Without halves of characters, which JSON can escape and UTF-8 cannot write."""
    with suppress(UnicodeEncodeError):
        text.encode()
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")


def _from_file(path: Path, name: str, raw: bytes) -> Iterator[Document | Unread]:
    title = gap = None
    if kind(path) == ".pdf":
        text, gap = pdf_text(raw)
    elif kind(path) in (".html", ".htm"):
        text, title = html_text(raw)
    else:
        text = decode(raw)[0]
    where = spelled(path)
    yield Document(name, text, source=spelled(path.parent.name) or None, title=title or None, where=where)
    if gap:
        yield Unread(where, gap)


def require_field(path: Path, field: str) -> None:
    """Check that the first line of a file, if it is an object, holds its text where it is looked for.

    A wrong field name must not cost a run in which every line is reported.

    Raises:
        InputError: it has no such field; names the nearest one.
    """
    row = None
    with suppress(InputError, OSError):  # told, with the file, when it is read
        number, raw = next(numbered_lines(ByteRange(path)), (1, b"null"))
        row = _parsed(raw)
    if isinstance(row, dict) and not isinstance(row.get(field), str):
        texts = [key for key, value in row.items() if isinstance(value, str)]
        raise InputError(f"{path}:{number}: {unknown('text field', field, texts)}; choose it with --field")
