"""Which files are read: those of a kind that holds text, and of a corpus that was built only its documents."""

import os
from collections.abc import Sequence
from pathlib import Path

from jmedllm.corpus.compressed import COMPRESSED
from jmedllm.errors import InputError

LINES = (".jsonl", ".ndjson")
KINDS = (*LINES, ".txt", ".md", ".html", ".htm", ".pdf")

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


def spelled(path: Path | str) -> str:
    """A path as text; names in another encoding than UTF-8, as old archives leave them, get \\x.. for a byte."""
    return os.fsencode(path).decode(errors="backslashreplace")


def find_files(inputs: Sequence[Path]) -> dict[Path, str]:
    """The readable files among the inputs and below their folders, each with its name for documents' ids.

    Inputs are in order, files of a folder by name. A name begins with that of the input, and is the same wherever
    that lies.

    Raises:
        InputError: an input is missing, or none of its files is of a kind that is read.
    """
    known = f"{', '.join(KINDS)}, also as {' or '.join(COMPRESSED)}"
    found: dict[Path, str] = {}
    for path in inputs:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if _is_text(file))
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
    return found


def _is_text(file: Path) -> bool:
    """Whether a file holds text to learn from: of a corpus that was built, its reports quote what was removed."""
    if not (kind(file) and file.is_file()):
        return False
    return file.match(DOCUMENTS) or not (file.parent / NAME).is_file()
