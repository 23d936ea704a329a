"""Finds the input files of a corpus, and the reasons why other files are not read."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmedllm.corpus.readers.compressed import COMPRESSED
from jmedllm.corpus.readers.formats import FORMATS
from jmedllm.errors import InputError, NoSuchPathError

LINES = (".jsonl", ".ndjson")
KINDS = (*LINES, *FORMATS)

NAME = "corpus.json"
"""The report of a finished corpus. It is written last: a folder that has it is a complete corpus."""

DEIDENTIFIED = "deidentification.json"
"""The report of a finished de-identification: in a folder that has it, only documents are read."""

CANARIES = "canary.json"
"""The report of planted canaries, see `jmedllm.canary`."""

DOCUMENTS = "documents-*.jsonl"
"""The document files of a corpus."""

_UNKNOWN = "is of a kind that is not read; export its text to .txt, .md, .docx, .pdf or .jsonl"
_ADVICE = {
    suffix: advice
    for suffixes, advice in (
        (".csv .tsv .parquet .xls .xlsx .ods", "is a table; export the column of its text to .jsonl"),
        (".json .xml .yaml .yml", "is structured data; export its text to .jsonl"),
        (".doc .odt .rtf .ppt .pptx .odp .epub", "is a document of another program; save it as .docx, .pdf or .html"),
        (".tex .rst .adoc", "is text with other markup; convert it to .md or .html"),
        (".png .jpg .jpeg .gif .tif .tiff .bmp .webp .svg .heic .dcm", "is an image; run OCR on it if it shows text"),
        (".zip .tar .tgz .7z .rar .bz2 .xz .lzh .gz .zst", "is an archive; unpack it"),
    )
    for suffix in suffixes.split()
}
"""Why the most common other kinds are not read, and the fix."""

_WORD_LOCK = "~$"
"""Word writes a small file with this prefix beside each document that is open."""


def kind(path: Path) -> str | None:
    """Return the suffix among `KINDS` that names a file's format, ignoring compression; None if there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else None


def ending(name: str) -> str:
    """Return the suffix of a file's name, such as ".csv", or "no suffix"."""
    return Path(name).suffix.lower() or "no suffix"


def spelled(path: Path | str) -> str:
    """Return a path as text. Bytes of a name that are not UTF-8, as old archives leave them, are written as \\x.. ."""
    return os.fsencode(path).decode(errors="backslashreplace")


def file_of(where: str) -> str:
    """Return the file of a place, which is a file or a file and a line: `a.jsonl:7` is in `a.jsonl`."""
    return where if kind(Path(where)) else where.rpartition(":")[0] or where


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A file, or a range of whole lines of it.

    Attributes:
        start: offset of the first byte.
        end: offset after the last byte; None for the end of the file.
        line: number of the first line, from 1.
        name: prefix for the ids of documents that have none; the file's name if empty.
    """

    path: Path
    start: int = 0
    end: int | None = None
    line: int = 1
    name: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file, or a line or some pages of it, that was not read, and why.

    Attributes:
        duplicate_of: the earlier file with the same content, where that is the reason.
        files: how many files it stands for; more than one for a hidden folder.
    """

    where: str
    reason: str
    duplicate_of: str | None = None
    files: int = 1


@dataclass(frozen=True, slots=True)
class Found:
    """What is below the inputs.

    Attributes:
        files: the files to read, each with a name for its documents' ids. The name starts with the name of the input,
            so it does not depend on where the input is.
        skipped: all other files, links and folders.
    """

    files: dict[Path, str]
    skipped: tuple[Skipped, ...]


def find_files(inputs: Sequence[Path]) -> Found:
    """Find the files among the inputs and in their folders: inputs in order, files of a folder by name.

    Raises:
        InputError: an input is missing, or none of its files is of a kind that is read.
    """
    known = f"{', '.join(KINDS)}, also as {' or '.join(COMPRESSED)}"
    found: dict[Path, str] = {}
    skipped: dict[Path, Skipped] = {}
    for path in inputs:
        if path.is_dir():
            reasons = {file: _why_not(file) for file in sorted(_below(path, skipped))}
            files = [file for file, reason in reasons.items() if not reason]
            skipped |= {file: Skipped(spelled(file), reason) for file, reason in reasons.items() if reason}
            if not files:
                raise InputError(f"corpus {path}: no file in this folder can be read; supported: {known}")
        elif not path.exists():
            raise NoSuchPathError(path, f"corpus {path}: no such file or folder")
        elif not kind(path):
            raise InputError(f"corpus {path}: cannot read {path.suffix or 'such'} files; supported: {known}")
        else:
            files = [path]
        root = path.resolve().name
        found |= {file: spelled(root / file.relative_to(path)) for file in files if file not in found}
    return Found(found, tuple(each for file, each in sorted(skipped.items()) if file not in found))


def require_separate(inputs: Sequence[Path], output: Path) -> None:
    """Check that no input is inside the output, and the output inside no input.

    Raises:
        InputError: one is.
    """
    for path in inputs:
        one, other = path.resolve(), output.resolve()
        if one == other or one in other.parents or other in one.parents:
            raise InputError(f"--output {output} and the input {path} overlap; choose another --output")


def _below(folder: Path, skipped: dict[Path, Skipped]) -> Iterator[Path]:
    """Yield all files below a folder. Links to folders are not followed, since they may form a cycle.

    Hidden folders, and folders that cannot be opened, are added to `skipped`.
    """

    def note(error: OSError) -> None:
        place = Path(os.fsdecode(error.filename))
        skipped[place] = Skipped(spelled(place), f"cannot be read: {error.strerror}")

    for name, folders, files in os.walk(folder, onerror=note):
        here = Path(name)
        for hidden in [below for below in folders if below.startswith(".") and not (here / below).is_symlink()]:
            folders.remove(hidden)
            count = sum(len(inside) for _, _, inside in os.walk(here / hidden))
            if count:
                skipped[here / hidden] = Skipped(f"{spelled(here / hidden)}/", "is a hidden folder", files=count)
        yield from (here / file for file in files)
        yield from (here / below for below in folders if (here / below).is_symlink())


def _why_not(file: Path) -> str:
    """Why a file below a folder is not read; empty if it is."""
    if not file.exists():
        return "is a broken link"
    if file.is_dir():
        return "is a link to a folder; give the folder as a separate input"
    if not file.is_file():
        return "is not a regular file"
    if file.name.startswith("."):
        return "is hidden; rename it if it should be read"
    if file.name.startswith(_WORD_LOCK):
        return "is a lock file of Word"
    if any((file.parent / report).is_file() for report in (NAME, DEIDENTIFIED, CANARIES)) and not file.match(
        DOCUMENTS
    ):
        return "belongs to a finished corpus, of which only the documents are read"
    if kind(file):
        return "" if file.stat().st_size else "is empty"
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return _ADVICE.get(suffixes[-1] if suffixes else "", _UNKNOWN)
