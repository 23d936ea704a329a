"""Read records from JSON Lines, JSON, CSV, TSV and Parquet files."""

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError, NoSuchPathError, not_installed
from jmedllm.evaluation.benchmarks.rows import InputRow
from jmedllm.files import read_bytes, try_jsonl
from jmedllm.parsing import decode_utf8, parse_json

JSON_KINDS = (".jsonl", ".ndjson", ".json")

RowOrError = InputRow | InputError
"""A record, or the error of an invalid row."""


def is_custom_file(name: str) -> bool:
    """Return whether a name is a file that `records` reads."""
    return Path(name).suffix.lower() in _READERS


def kinds() -> str:
    """File endings that `records` reads, for messages."""
    return ", ".join(_READERS)


def records(path: Path, *, header: bool = True) -> Iterator[RowOrError]:
    """Yield the records of a file in the format of its ending, and an error for each invalid row.

    Args:
        path: the file.
        header: whether the first row of a CSV or TSV file names the columns; else they are #1, #2, ...

    Raises:
        InputError: the whole file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise InputError(f"{path}: unknown file format; save it as one of {kinds()}")
    return _READERS[suffix](path, header)


def _jsonl(path: Path, header: bool) -> Iterator[RowOrError]:
    for number, row in try_jsonl(path):
        yield row if isinstance(row, InputError) else InputRow(path, number, row)


def _json(path: Path, header: bool) -> Iterator[RowOrError]:
    """Read a list of objects, an object with one such list or with nothing but objects, or JSON Lines under the name
    .json, as many data sets have them."""
    text = decode_utf8(read_bytes(path), path)
    if _is_lines(text):
        yield from _jsonl(path, header)
        return
    value = parse_json(text, path)
    for number, entry in enumerate(_entries(path, value), 1):
        if isinstance(entry, dict):
            yield InputRow(path, number, entry, "entry")
        else:
            yield InputError(f"{path}: entry {number}: expected an object, found {type(entry).__name__}")


def _is_lines(text: str) -> bool:
    """Return whether the first line is one object and another object follows."""
    first, _, rest = text.strip().partition("\n")
    return first.lstrip().startswith("{") and first.rstrip().endswith("}") and rest.lstrip().startswith("{")


def _entries(path: Path, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        lists = [each for each in value.values() if isinstance(each, list) and each and isinstance(each[0], dict)]
        if len(lists) == 1:
            return lists[0]
        if value and all(isinstance(each, dict) for each in value.values()):
            return [{"id": key, **each} for key, each in value.items()]
    raise InputError(f"{path}: expected a list of objects, one for each item; give that list alone")


def _csv(path: Path, header: bool) -> Iterator[RowOrError]:
    text = _text(path)
    first = text.partition("\n")[0]
    # Spreadsheets write ";" in countries with a decimal comma.
    delimiter = next((each for each in ",\t;" if each in first), ",")
    return _delimited(path, text, delimiter, header)


def _tsv(path: Path, header: bool) -> Iterator[RowOrError]:
    return _delimited(path, _text(path), "\t", header)


def _text(path: Path) -> str:
    """Read the file; all line ends become "\\n"."""
    return decode_utf8(read_bytes(path), path).replace("\r\n", "\n").replace("\r", "\n")


def _delimited(path: Path, text: str, delimiter: str, header: bool) -> Iterator[RowOrError]:
    csv.field_size_limit(sys.maxsize)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    number = 1
    try:
        for row in rows:
            at, number = number, rows.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if not columns:
                columns = _columns(path, at, row) if header else [f"#{each}" for each in range(1, len(row) + 1)]
                if header:
                    continue
            if len(row) == len(columns):
                yield InputRow(path, at, dict(zip(columns, row, strict=True)))
            else:
                yield InputError(
                    f"{path}:{at}: expected {len(columns)} fields ({', '.join(columns)}), found {len(row)}; "
                    "put quotes around texts with commas"
                )
    except csv.Error as error:
        raise InputError(f"{path}:{number}: broken CSV: {error}; fix the quotes of this row") from error


def _columns(path: Path, number: int, row: list[str]) -> list[str]:
    names = [cell.strip() or f"#{place}" for place, cell in enumerate(row, 1)]
    for name, times in Counter(names).items():
        if times > 1:
            raise InputError(f"{path}:{number}: column {name} appears twice; rename one of them")
    return names


def _parquet(path: Path, header: bool) -> Iterator[RowOrError]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise not_installed(f"{path}: Parquet", "pyarrow") from None
    if not path.is_file():
        raise NoSuchPathError(path, f"{path}: no such file")
    try:
        number = 0
        for batch in parquet.ParquetFile(path).iter_batches():
            for record in batch.to_pylist():
                number += 1
                yield InputRow(path, number, record, "row")
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {str(error).splitlines()[0]}") from error


_READERS: Mapping[str, Callable[[Path, bool], Iterator[RowOrError]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
