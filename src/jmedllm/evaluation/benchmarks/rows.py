"""Records of data files with their place, so that every error names file, line and field."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.question import label, letter_index
from jmedllm.files import read_json, read_jsonl

SHOWN = 60
"""Characters of a value that an error quotes at most."""


@dataclass(frozen=True, slots=True)
class InputRow:
    """One record of a data file and the place where it begins.

    Attributes:
        number: number of the line, entry or row, from 1.
        unit: "entry" or "row" for formats without meaningful lines.
    """

    path: Path
    number: int
    record: Mapping[str, Any]
    unit: str = ""

    @property
    def place(self) -> str:
        """The record's place, for the beginning of an error."""
        return f"{self.path}: {self.unit} {self.number}" if self.unit else f"{self.path}:{self.number}"

    def wrong(self, field: str, wanted: str) -> InputError:
        """Build the error for a field with an invalid value."""
        found = quoted(self.record[field]) if field in self.record else "nothing"
        return InputError(f'{self.place}: field "{field}": expected {wanted}, found {found}')

    def text(self, field: str, *, may_be_empty: bool = False) -> str:
        """Return the text of a field, unchanged."""
        value = self.record.get(field)
        if not isinstance(value, str) or not (value or may_be_empty):
            raise self.wrong(field, "a text")
        return value

    def texts(self, field: str, wanted: str = "a list of texts") -> tuple[str, ...]:
        """Texts of a list field; the list may be empty, its texts may not."""
        value = self.record.get(field)
        if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
            raise self.wrong(field, wanted)
        return tuple(value)

    def boolean(self, field: str) -> bool:
        """Truth value of a field."""
        value = self.record.get(field)
        if not isinstance(value, bool):
            raise self.wrong(field, "true or false")
        return value

    def integer(self, field: str, low: int, high: int | None = None) -> int:
        """Whole number of a field, from `low` to `high` (None: no upper bound)."""
        value = self.record.get(field)
        # A bool is an int to Python, but never to the writer of a data file.
        if type(value) is not int or value < low or (high is not None and value > high):
            bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
            raise self.wrong(field, f"a whole number {bounds}")
        return value

    def choice(self, field: str, letter: str, count: int) -> int:
        """Index of the choice that `letter`, the value of `field`, names among `count` choices."""
        try:
            index = letter_index(letter)
        except ValueError:
            index = count
        if index >= count:
            raise self.wrong(field, f"letters from a to {label(count - 1)}, one for each of {count} choices")
        return index


def quoted(value: Any) -> str:
    """Return the beginning of a value, for an error."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def jsonl_rows(path: Path) -> Iterator[InputRow]:
    """Yield the records of a JSONL file."""
    for number, record in read_jsonl(path):
        yield InputRow(path, number, record)


def json_rows(path: Path) -> Iterator[InputRow]:
    """Yield the objects of a JSON file that is one list of them.

    Raises:
        InputError: the file is not JSON, or not a list of objects.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: expected a list of objects; fetch the file again")
    for number, entry in enumerate(entries, start=1):
        yield InputRow(path, number, entry, "entry")


def headed_csv_rows(path: Path, fields: Sequence[str]) -> Iterator[InputRow]:
    """Yield the rows of a CSV file below a header that names `fields`.

    Raises:
        InputError: see `csv_rows`, or the header is another.
    """
    for row in csv_rows(path, fields):
        if row.number > 1:
            yield row
        elif list(row.record.values()) != list(fields):
            raise InputError(f"{path}:1: expected the header {','.join(fields)}; fetch the file again")


def csv_rows(path: Path, fields: Sequence[str]) -> Iterator[InputRow]:
    """Yield the rows of a CSV file (UTF-8, with or without BOM) as records with `fields`.

    Line ends inside a text become "\\n".

    Raises:
        InputError: the file is not valid CSV, or a row has another number of fields.
    """
    number = 1
    with path.open(encoding="utf-8-sig") as handle:
        rows = csv.reader(handle, strict=True)
        try:
            for row in rows:
                if len(row) != len(fields):
                    raise InputError(
                        f"{path}:{number}: expected {len(fields)} fields ({', '.join(fields)}), "
                        f"found {len(row)}; put quotes around texts with commas"
                    )
                yield InputRow(path, number, dict(zip(fields, row, strict=True)))
                number = rows.line_num + 1
        except csv.Error as error:
            raise InputError(f"{path}:{number}: broken CSV: {error}; fix the quotes of this row") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8: {error.reason}; convert the file to UTF-8") from error


class MissingFileError(InputError):
    """A file of a benchmark is not there.

    Attributes:
        path: path of the file.
    """

    def __init__(self, path: Path, fix: str) -> None:
        super().__init__(f"{path}: no such file; {fix}")
        self.path = path


def data_file(data: Path, relative: str, source: str) -> Path:
    """Return the path of a file of a benchmark.

    Raises:
        MissingFileError: the file is missing; the message names the command that fetches it.
    """
    path = data / relative
    if not path.is_file():
        raise MissingFileError(path, f"fetch it with: jmedllm data get {source} --data {data}")
    return path
