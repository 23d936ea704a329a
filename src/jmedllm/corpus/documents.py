"""Documents, and the files of a clean corpus, from which each document is read when it is used."""

import json
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from jmedllm.files import to_json


@dataclass(frozen=True, slots=True)
class Document:
    """One text.

    Attributes:
        language: "ja", "en" or "other"; None if it is unknown.
        where: the file, and the line in it, that the text was read from.
        patient: what the line says of the patient, where a reader was asked for it. It is never written.
    """

    id: str
    text: str
    language: str | None = None
    source: str | None = None
    license: str | None = None
    title: str | None = None
    where: str = ""
    patient: str | None = None


class Documents(Sequence[Document]):
    """Documents by number, in files of one JSON object per line; 8 bytes of memory each.

    Args:
        files: the files, in order.
        offsets: the offsets of the lines of each file.
    """

    def __init__(self, files: Sequence[Path], offsets: Sequence["array[int]"]) -> None:
        self.files = tuple(files)
        self.offsets = tuple(offsets)
        self._firsts = [0]
        for each in self.offsets:
            self._firsts.append(self._firsts[-1] + len(each))

    def __len__(self) -> int:
        return self._firsts[-1]

    @overload
    def __getitem__(self, number: int) -> Document: ...
    @overload
    def __getitem__(self, number: slice) -> list[Document]: ...
    def __getitem__(self, number: int | slice) -> Document | list[Document]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        place = range(len(self))[number]
        file = bisect_right(self._firsts, place) - 1
        with self.files[file].open("rb") as handle:
            handle.seek(self.offsets[file][place - self._firsts[file]])
            return _document(handle.readline())

    def __iter__(self) -> Iterator[Document]:
        for file, offsets in zip(self.files, self.offsets, strict=True):
            with file.open("rb") as handle:
                for offset in offsets:
                    if handle.tell() != offset:
                        handle.seek(offset)
                    yield _document(handle.readline())

    def __add__(self, other: "Documents") -> "Documents":
        return Documents(self.files + other.files, self.offsets + other.offsets)

    def filter(self, keep: Callable[[Document], bool]) -> "Documents":
        """Return the documents for which `keep` is true."""
        kept = iter([keep(document) for document in self])
        return Documents(self.files, [array("Q", (offset for offset in each if next(kept))) for each in self.offsets])


def open_documents(files: Iterable[Path]) -> Documents:
    """Return the documents of the files of a clean corpus, in order."""
    paths = list(files)
    return Documents(paths, [_offsets(path) for path in paths])


def as_line(document: Document) -> bytes:
    """Return a document as a line of a clean corpus."""
    return (to_json(as_row(document)) + "\n").encode()


def as_row(document: Document) -> dict[str, Any]:
    """Return a document as plain values, with the keys of the files of a clean corpus."""
    return {
        "id": document.id,
        "title": document.title or "",
        "text": document.text,
        "lang": document.language,
        "source": document.source,
        "license": document.license,
    }


def _document(line: bytes) -> Document:
    row = json.loads(line)
    return Document(row["id"], row["text"], row["lang"], row["source"], row["license"], row["title"] or None)


def _offsets(path: Path) -> "array[int]":
    found, offset = array("Q"), 0
    with path.open("rb") as handle:
        for line in handle:
            found.append(offset)
            offset += len(line)
    return found
