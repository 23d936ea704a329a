"""Which files are read: those of a kind that holds text, and of a corpus that was built only its documents.

All others are named with the reason.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmedllm.corpus.readers.compressed import COMPRESSED
from jmedllm.errors import InputError

LINES = (".jsonl", ".ndjson")
KINDS = (*LINES, ".txt", ".md", ".html", ".htm", ".pdf")

_UNKNOWN = "is of a kind that is not read; export its text to .txt, .md, .html, .pdf or .jsonl"
_ADVICE = {
    suffix: advice
    for suffixes, advice in (
        (".csv .tsv .parquet .xls .xlsx .ods", "is a table; export the column of its text to .jsonl"),
        (".json .xml .yaml .yml", "is data of a layout of its own; export its text to .jsonl"),
        (
            ".doc .docx .odt .rtf .ppt .pptx .odp .epub",
            "is a document of another program; save it as .pdf or .html",
        ),
        (".tex .rst .adoc", "is text with other markup; convert it to .md or .html"),
        (
            ".png .jpg .jpeg .gif .tif .tiff .bmp .webp .svg .heic .dcm",
            "is an image; run OCR over it if it shows text",
        ),
        (".zip .tar .tgz .7z .rar .bz2 .xz .lzh .gz .zst", "is an archive; unpack it"),
    )
    for suffix in suffixes.split()
}
"""Why the commonest other kinds are not read, and what to do."""

NAME = "corpus.json"
"""What tells of a corpus that was built; written last: where it is, the corpus is whole."""

DOCUMENTS = "documents-*.jsonl"
"""The files of documents of a corpus."""


def kind(path: Path) -> str | None:
    """What a file holds, by its name, as one of `KINDS`; None if it is none of them."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in KINDS else None


def ending(name: str) -> str:
    """The ending of a file's name, such as ".csv"; "no ending" if it has none."""
    return Path(name).suffix.lower() or "no ending"


def spelled(path: Path | str) -> str:
    """A path as text; names in another encoding than UTF-8, as old archives leave them, get \\x.. for a byte."""
    return os.fsencode(path).decode(errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class Unread:
    """A file, or a line or pages of one, that could not be read, and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What is below the inputs.

    Attributes:
        files: what can be read, with names for documents' ids; a name begins with that of its input, and is the
            same wherever that lies.
        unread: all other files, links and folders that were met.
    """

    files: dict[Path, str]
    unread: tuple[Unread, ...]


def find_files(inputs: Sequence[Path]) -> Found:
    """The files among the inputs and below their folders: inputs in order, files of a folder by name.

    Raises:
        InputError: an input is missing, or none of its files is of a kind that is read.
    """
    known = f"{', '.join(KINDS)}, also as {' or '.join(COMPRESSED)}"
    found: dict[Path, str] = {}
    unread: dict[Path, Unread] = {}
    for path in inputs:
        if path.is_dir():
            reasons = {file: _why_not(file) for file in sorted(_below(path, unread))}
            files = [file for file, reason in reasons.items() if not reason]
            unread |= {file: Unread(spelled(file), reason) for file, reason in reasons.items() if reason}
            if not files:
                raise InputError(f"corpus {path}: no file below this folder can be read; these can: {known}")
        elif not path.exists():
            raise InputError(f"corpus {path}: no such file or folder")
        elif not kind(path):
            raise InputError(f"corpus {path}: cannot read {path.suffix or 'such'} files; these can be: {known}")
        else:
            files = [path]
        root = path.resolve().name
        found |= {file: spelled(root / file.relative_to(path)) for file in files if file not in found}
    return Found(found, tuple(each for file, each in sorted(unread.items()) if file not in found))


def _below(folder: Path, unread: dict[Path, Unread]) -> Iterator[Path]:
    """All below a folder that is no folder itself; links to folders are not followed, they may lead in circles."""

    def note(error: OSError) -> None:
        place = Path(os.fsdecode(error.filename))
        unread[place] = Unread(spelled(place), f"cannot be read: {error.strerror}")

    for name, folders, files in os.walk(folder, onerror=note):
        here = Path(name)
        yield from (here / file for file in files)
        yield from (here / below for below in folders if (here / below).is_symlink())


def _why_not(file: Path) -> str:
    """Why a file below a folder is not read; empty if it is."""
    if not file.exists():
        return "is a link to nothing"
    if file.is_dir():
        return "is a link to a folder; give the folder as an input of its own"
    if not file.is_file():
        return "is no regular file"
    if (file.parent / NAME).is_file() and not file.match(DOCUMENTS):
        return "belongs to the corpus beside it, of which only the documents are read"
    if kind(file):
        return "" if file.stat().st_size else "is empty"
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return _ADVICE.get(suffixes[-1] if suffixes else "", _UNKNOWN)
