"""Hashes all input files and divides them into parts."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jmedllm.corpus.readers.compressed import is_compressed
from jmedllm.corpus.readers.inputs import LINES, ByteRange, Skipped, find_files, kind, spelled
from jmedllm.corpus.readers.jsonl import require_field
from jmedllm.errors import InputError

PART_BYTES = 4 << 20
"""Size of a part: small enough to keep all processes busy until the end, large enough to be worth a file."""

_COMPRESSION = 4
"""Assumed number of bytes of text in a compressed byte."""

_BUFFER = 1 << 20

CorpusPart = tuple[ByteRange, ...]
"""Unit of work of one process. A killed build does not repeat finished parts."""


@dataclass(frozen=True, slots=True)
class Survey:
    """The input files.

    Attributes:
        hashes: SHA-256 of every file that is read, by its path as given.
        parts: all of the input, in order. They depend on the files alone, so that the corpus does not depend on the
            number of processes.
        skipped: all other files, each with the reason.
    """

    hashes: dict[str, str]
    parts: tuple[CorpusPart, ...]
    skipped: tuple[Skipped, ...]


def survey(inputs: Sequence[Path], field: str) -> Survey:
    """Hash all files and divide them into parts. A file with the same content as an earlier one is skipped.

    Raises:
        InputError: an input is missing, cannot be read or is of no supported kind; or the first line of a file of JSON
            lines has no text in `field`.
    """
    hashes: dict[str, str] = {}
    byte_ranges: list[tuple[ByteRange, int]] = []
    found = find_files(inputs)
    skipped, first = list(found.skipped), dict[str, str]()
    for path, name in found.files.items():
        try:
            hashed, ranges = _survey_file(path)
        except OSError as error:
            if path in inputs:
                raise InputError(f"corpus {path}: cannot be read: {error.strerror}") from error
            skipped.append(Skipped(spelled(path), f"cannot be read: {error.strerror}"))
            continue
        if hashed in first:
            skipped.append(Skipped(spelled(path), "has the same content as another file", first[hashed]))
            continue
        if kind(path) in LINES:
            require_field(path, field)
        hashes[spelled(path)] = hashed
        first[hashed] = spelled(path)
        byte_ranges += [(replace(each, name=name), size) for each, size in ranges]
    return Survey(hashes, tuple(_grouped(byte_ranges)), tuple(skipped))


def _survey_file(path: Path) -> tuple[str, list[tuple[ByteRange, int]]]:
    """Return a file's hash, and its byte ranges with their sizes in bytes of text."""
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


def _grouped(byte_ranges: Iterable[tuple[ByteRange, int]]) -> Iterator[CorpusPart]:
    """Combine neighbours until they have the size of a part."""
    group: list[ByteRange] = []
    size = 0
    for byte_range, length in byte_ranges:
        if group and size + length > PART_BYTES * 3 // 2:
            yield tuple(group)
            group, size = [], 0
        group.append(byte_range)
        size += length
    if group:
        yield tuple(group)
