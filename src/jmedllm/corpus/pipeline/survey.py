"""What there is to read: every file's hash, and the parts that the work is divided into."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jmedllm.corpus.readers.compressed import is_compressed
from jmedllm.corpus.readers.inputs import LINES, Unread, find_files, kind, spelled
from jmedllm.corpus.readers.read import ByteRange, require_field
from jmedllm.errors import InputError

PART_BYTES = 4 << 20
"""Size of a part: small enough to keep all processes busy to the end, large enough to be worth a file."""

_COMPRESSION = 4
"""How many bytes of text a compressed byte is reckoned to hold."""

_BUFFER = 1 << 20

Part = tuple[ByteRange, ...]
"""What one process reads at a time, and what a killed run does not read again."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The input, whole.

    Attributes:
        hashes: SHA-256 of every file that is read, by its path as given.
        unread: all other files that were met, each with the reason.
        parts: all of the input in order. They follow from the files alone, so that any number of processes makes
            the same corpus.
    """

    hashes: dict[str, str]
    parts: tuple[Part, ...]
    unread: tuple[Unread, ...]


def survey(inputs: Sequence[Path], field: str) -> Survey:
    """Read all files once.

    Raises:
        InputError: an input is missing, cannot be read or is of no kind that is read; or the first line of a file
            of JSON lines has no text in `field`.
    """
    hashes: dict[str, str] = {}
    extents: list[tuple[ByteRange, int]] = []
    found = find_files(inputs)
    unread = list(found.unread)
    for path, name in found.files.items():
        try:
            hashed, parts = _survey_file(path)
        except OSError as error:
            if path in inputs:
                raise InputError(f"corpus {path}: cannot be read: {error.strerror}") from error
            unread.append(Unread(spelled(path), f"cannot be read: {error.strerror}"))
            continue
        if kind(path) in LINES:
            require_field(path, field)
        hashes[spelled(path)] = hashed
        extents += [(replace(extent, name=name), size) for extent, size in parts]
    return Survey(hashes, tuple(_grouped(extents)), tuple(unread))


def _survey_file(path: Path) -> tuple[str, list[tuple[ByteRange, int]]]:
    """A file's hash, and its extents with their sizes in bytes of text."""
    divided = kind(path) in LINES and not is_compressed(path)
    digest, found = hashlib.sha256(), []
    start, line, offset, lines = 0, 1, 0, 0
    with path.open("rb") as handle:
        while data := handle.read(_BUFFER):
            digest.update(data)
            cut = data.rfind(b"\n") + 1
            if divided and cut and offset + cut - start >= PART_BYTES:
                lines += data.count(b"\n")
                found.append((ByteRange(path, start, offset + cut, line), offset + cut - start))
                start, line = offset + cut, line + lines
                lines = 0
            else:
                lines += data.count(b"\n")
            offset += len(data)
    if not divided:
        found = [(ByteRange(path), offset * (_COMPRESSION if is_compressed(path) else 1))]
    elif offset > start or not offset:
        found.append((ByteRange(path, start, offset, line), offset - start))
    return digest.hexdigest(), found


def _grouped(extents: Iterable[tuple[ByteRange, int]]) -> Iterator[Part]:
    """Neighbours together until they are a part's size."""
    group: list[ByteRange] = []
    size = 0
    for extent, length in extents:
        if group and size + length > PART_BYTES * 3 // 2:
            yield tuple(group)
            group, size = [], 0
        group.append(extent)
        size += length
    if group:
        yield tuple(group)
