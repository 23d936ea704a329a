"""Reads documents from files of every supported format."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from jmedllm.corpus.documents import Document
from jmedllm.corpus.readers.compressed import open_any
from jmedllm.corpus.readers.convert import convert
from jmedllm.corpus.readers.formats import FORMATS, ISOLATED
from jmedllm.corpus.readers.inputs import LINES, ByteRange, Skipped, find_files, kind, spelled
from jmedllm.corpus.readers.jsonl import read_lines
from jmedllm.corpus.readers.limits import read_whole
from jmedllm.errors import InputError


def read_documents(path: Path, field: str = "text") -> Iterator[Document]:
    """Read all documents of a file, or of all files below a folder, without cleaning them.

    Raises:
        InputError: no readable file is there, or a part of a file cannot be read; the message names file and line.
    """
    for file, name in find_files([path]).files.items():
        for found in read(ByteRange(file, name=name), field):
            if isinstance(found, Skipped):
                raise InputError(f"{found.where}: {found.reason}")
            yield found


def require_text(inputs: Sequence[Path], field: str = "text") -> None:
    """Check that a document below the inputs contains text. The files are read up to the first that does.

    Raises:
        InputError: none does, an input is missing, or none of its files is of a kind that is read.
    """
    unread: list[Skipped] = []
    for file, name in find_files(inputs).files.items():
        for found in read(ByteRange(file, name=name), field):
            if isinstance(found, Skipped):
                unread.append(found)
            elif found.text.strip():
                return
    reason = f" ({unread[0].where}: {unread[0].reason})" if unread else ""
    raise InputError(f"corpus {', '.join(map(spelled, inputs))}: contains no text{reason}; give files that do")


def read(byte_range: ByteRange, field: str = "text", patient_field: str | None = None) -> Iterator[Document | Skipped]:
    """Read the documents of a file or a range of it; yields a `Skipped` for what cannot be read, and reads on.

    Args:
        field: the key of the text in lines of JSON.
        patient_field: the key of the patient in them, if that is wanted.
    """
    path, name = byte_range.path, byte_range.name or spelled(byte_range.path.name)
    suffix = kind(path)
    try:
        if suffix in LINES:
            yield from read_lines(byte_range, name, field, patient_field)
        elif suffix in FORMATS:
            with open_any(path, lost="nothing of it is read") as handle:
                raw = read_whole(handle)
            yield from _from_file(path, name, suffix, raw)
        else:
            yield Skipped(spelled(path), "is of a kind that is not read")
    except InputError as error:
        yield Skipped(spelled(path), str(error))
    except OSError as error:
        yield Skipped(spelled(path), f"cannot be read: {error.strerror}")


def _from_file(path: Path, name: str, suffix: str, raw: bytes) -> Iterator[Document | Skipped]:
    text, title, gap = convert(suffix, raw) if suffix in ISOLATED else FORMATS[suffix](raw)
    where = spelled(path)
    yield Document(name, text, source=spelled(path.parent.name) or None, title=title, where=where)
    if gap:
        yield Skipped(where, gap)
