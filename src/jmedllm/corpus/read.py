"""Raw medical text from files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.files import read_jsonl

SUFFIXES = (".jsonl", ".txt", ".md")


@dataclass(frozen=True, slots=True)
class Document:
    """One raw text. `language` is "ja", "en" or None where the source does not say."""

    id: str
    text: str
    language: str | None = None
    source: str | None = None
    license: str | None = None


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a file (.jsonl with a `text` field, .txt, .md) or of all such files below a folder.

    Raises:
        InputError: nothing readable is there, or a line has no text; names file and line.
    """
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
        if not files:
            raise InputError(f"corpus {path}: no {', '.join(SUFFIXES)} files below this folder")
        for file in files:
            yield from _read_file(file)
    else:
        yield from _read_file(path)


def _read_file(path: Path) -> Iterator[Document]:
    if path.suffix == ".jsonl":
        yield from _read_lines(path)
    elif path.suffix in SUFFIXES:
        try:
            yield Document(id=path.name, text=path.read_text(encoding="utf-8-sig"), source=path.name)
        except FileNotFoundError:
            raise InputError(f"corpus {path}: no such file or folder") from None
        except OSError as error:
            raise InputError(f"corpus {path}: cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"corpus {path}: not UTF-8: {error.reason}; convert it to UTF-8") from error
    elif path.exists():
        raise InputError(f"corpus {path}: cannot read {path.suffix or 'such'} files; use {', '.join(SUFFIXES)}")
    else:
        raise InputError(f"corpus {path}: no such file or folder")


def _read_lines(path: Path) -> Iterator[Document]:
    for number, row in read_jsonl(path):
        text = row.get("text")
        if not isinstance(text, str):
            raise InputError(f"{path}:{number}: field 'text' must be a string; it holds the document")
        yield Document(
            id=f"{path.name}:{number}" if row.get("id") is None else str(row["id"]),
            text=text,
            language=row.get("lang") or row.get("language"),
            source=row.get("source"),
            license=row.get("license"),
        )
