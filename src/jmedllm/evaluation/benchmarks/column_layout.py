"""Find the column of each field in a file of custom questions; refuse columns that would silently be left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.benchmarks.columns import (
    QUESTION_NAMES,
    FieldSource,
    UnmappedColumnsError,
    as_option,
    columns_of,
    our_name,
    resolve,
    suggest,
)
from jmedllm.evaluation.benchmarks.file_formats import JSON_KINDS, RowOrError
from jmedllm.evaluation.benchmarks.parsed_row import FIELDS, FREE_TEXT, ColumnLayout
from jmedllm.evaluation.benchmarks.rows import InputRow
from jmedllm.evaluation.question import LANGUAGES

_REQUIRED = ("question", "choices", "answer")
_REQUIRED_FREE_TEXT = ("question",)
"""Required fields of a file that has a column of `FREE_TEXT`; its rows without one still need choices or a number."""

Sources = Mapping[str, FieldSource]
"""Our field → its columns."""


@dataclass(frozen=True, slots=True)
class _Table:
    """A file with its columns in order, its readable rows, and the user's mapping."""

    path: Path
    columns: Sequence[str]
    rows: Sequence[InputRow]
    mapping: Mapping[str, str]

    @property
    def is_strict(self) -> bool:
        """Whether the file must use our names and types."""
        return not self.mapping and self.path.suffix.lower() in JSON_KINDS


def find_layout(
    path: Path, rows: Sequence[RowOrError], mapping: Mapping[str, str]
) -> tuple[ColumnLayout, tuple[str, ...]]:
    """Find the column of each field; also return a note on columns that are not read.

    Raises:
        InputError: the mapping names an unknown column, or there is no mapping and the names are not ours.
    """
    table = _Table(path, columns_of(rows), [row for row in rows if isinstance(row, InputRow)], mapping)
    if not table.rows:
        return ColumnLayout({}, table.is_strict), ()
    sources = _sources(table)
    unread = _unread(table, sources)
    _refuse_foreign_columns(table, sources, unread)
    below = "choices" in mapping and sources["choices"] == sources.get("question")
    note = (f"not read: {', '.join(unread)}",) if unread and not table.is_strict else ()
    return ColumnLayout(sources, table.is_strict, below), note


def _sources(table: _Table) -> Sources:
    """Find the columns of each field that the mapping names or that has our name."""
    sources: dict[str, FieldSource] = {}
    for field in FIELDS:
        if field in table.mapping:
            constants = LANGUAGES if field == "language" else ()
            try:
                sources[field] = resolve(field, table.mapping[field], table.columns, constants)
            except InputError as error:
                raise InputError(f"{table.path}: {error}") from None
        elif field in table.columns or table.is_strict:
            sources[field] = FieldSource((field,))
    return sources


def _unread(table: _Table, sources: Sources) -> list[str]:
    """Return the columns that no field reads, not even a part of their value."""
    read = {column for source in sources.values() for column in source.columns}
    read |= {column.partition(".")[0] for column in read}
    return [column for column in table.columns if column not in read]


def _refuse_foreign_columns(table: _Table, sources: Sources, unread: Sequence[str]) -> None:
    """Check that no column is left out silently and that every required field has one.

    In a strict file most rows must have the unknown column: otherwise the row is wrong, not the file.
    """
    if table.is_strict:
        if 2 * sum(any(key in row.record for key in unread) for row in table.rows) > len(table.rows):
            raise _unknown_column_of(table, unread)
        return
    is_unmapped = bool(unread) and not table.mapping
    if is_unmapped and suggest(table.columns, FIELDS, QUESTION_NAMES):
        raise _unknown_column_of(table, unread)
    _require_sources(table, sources)
    if is_unmapped:
        raise _unknown_column_of(table, unread)


def _require_sources(table: _Table, sources: Sources) -> None:
    required = _REQUIRED_FREE_TEXT if any(field in sources for field in FREE_TEXT) else _REQUIRED
    missing = [field for field in required if field not in sources]
    if not missing:
        return
    found = as_option(dict(table.mapping) | suggest(table.columns, missing, QUESTION_NAMES))
    raise UnmappedColumnsError(
        f"{table.path}: no column for {' and '.join(missing)}; columns: {', '.join(table.columns)}; name them with "
        f"--map {found or 'question=COLUMN,choices=FIRST:LAST,answer=COLUMN'}"
        + ("; choices below the question: name its column for both" if "choices" in missing else ""),
        found,
    )


def _unknown_column_of(table: _Table, unread: Sequence[str]) -> InputError:
    first = next(row for row in table.rows if unread[0] in row.record)
    return unknown_column(first, unread, table.columns)


def unknown_column(row: InputRow, unread: Sequence[str], columns: Sequence[str]) -> InputError:
    """Return the error for keys that are not ours, with the mapping that reads them."""
    found = suggest(columns, FIELDS, QUESTION_NAMES)
    called = next(((key, field) for key in unread if (field := our_name(key, QUESTION_NAMES))), None)
    if called is not None and called[1] in found:
        name, field = called
        return UnmappedColumnsError(
            f'{row.place}: unknown key {name!r}: "{name}" is called "{field}" here; rename it, or read the file '
            f"with --map {as_option(found)} (in a recipe: map)",
            as_option(found),
        )
    if found:
        return UnmappedColumnsError(
            f"{row.place}: unknown key {unread[0]!r}: read the file with --map {as_option(found)} (in a recipe: map)",
            as_option(found),
        )
    problem = unknown("key", unread[0], FIELDS)
    if "known: " not in str(problem):
        return InputError(f"{row.place}: {problem}")
    return InputError(
        f"{row.place}: {problem}; to read only what is known, name it: --map question=question (in a recipe: map)"
    )
