"""Responses that somebody else recorded, from files of the kinds that `tables` reads."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jmedllm.errors import InputError, rows_wrong, unknown
from jmedllm.exam.benchmarks.columns import RESPONSE_NAMES, Map, as_option, require_fields, resolve, suggest
from jmedllm.exam.benchmarks.reading import Line
from jmedllm.exam.benchmarks.tables import JSON_KINDS, Row, records

KEYS = {"id": ("id", "problem_id"), "response": ("response", "prediction")}
"""Our names of each field."""

RESPONSE_FIELDS = tuple(KEYS)
"""What a mapping of responses may name."""


@dataclass(frozen=True, slots=True)
class Responses:
    """Recorded responses.

    Attributes:
        by_id: raw text by question id.
        skipped: places of rows that were left out as wrong.
    """

    by_id: dict[str, str]
    skipped: tuple[str, ...]


def read_responses(files: Sequence[Path], known: Iterable[str]) -> dict[str, str]:
    """Responses by question id, see `read_recorded`."""
    return read_recorded(files, known).by_id


def read_recorded(
    files: Sequence[Path], known: Iterable[str], columns: Map | None = None, *, skip_invalid: bool = False
) -> Responses:
    """Responses by question id, from files of any kind that `tables` reads, their rows in any order.

    Args:
        files: one or more.
        known: ids of the questions.
        columns: our fields (`RESPONSE_FIELDS`) with the files' columns.
        skip_invalid: leave rows that are wrong out.

    Raises:
        InputError: rows are broken, or their ids are unknown or were given before (all are named, up to 20); or
            there is no response.
    """
    ids = set(known)
    require_fields(columns or {}, RESPONSE_FIELDS)
    responses: dict[str, str] = {}
    places: dict[str, str] = {}
    problems: list[tuple[str, InputError]] = []
    for path in files:
        for row in _rows(path, columns or {}):
            try:
                if isinstance(row, InputError):
                    raise row
                name = _name(row, ids)
                if name in places:
                    raise InputError(f"{row.place}: question {name} was answered in {places[name]}; remove one")
                responses[name] = row.text(_key(row, KEYS["response"]), may_be_empty=True)
                places[name] = row.place
            except InputError as error:
                problems.append((row.place if isinstance(row, Line) else str(row).partition(": ")[0], error))
    if problems and not skip_invalid:
        raise rows_wrong([error for _, error in problems], "mend them, or leave them out with --skip-invalid")
    if not responses:
        first = f"; every row is wrong, the first one: {problems[0][1]}" if problems else ""
        raise InputError(
            f"{', '.join(map(str, files))}: holds no response; check that it is the right file{first}"
        )
    return Responses(responses, tuple(place for place, _ in problems))


def _rows(path: Path, columns: Map) -> Iterator[Row]:
    """The rows of a file by our names.

    Raises:
        InputError: no row has them; the mapping that would help is named.
    """
    rows = list(records(path))
    names = list(dict.fromkeys(key for row in rows if isinstance(row, Line) for key in row.record))
    without = [each for each in RESPONSE_FIELDS if each not in columns and not {*KEYS[each]} & {*names}]
    if found := suggest(names, without, RESPONSE_NAMES):
        called = ", ".join(f'"{column}" is called "{each}" here' for each, column in found.items())
        option = as_option({**columns, **found})
        raise InputError(f"{path}: {called}; rename it, or read the file with --map-responses {option}")
    sources = {each: resolve(each, column, names) for each, column in columns.items()} if names else {}
    loose = bool(columns) or path.suffix.lower() not in JSON_KINDS
    for row in rows:
        if isinstance(row, InputError):
            yield row
            continue
        ours = {key: value for key, value in row.record.items() if not any(key in KEYS[each] for each in sources)}
        ours |= {each: source.value(row.record) for each, source in sources.items()}
        yield replace(row, record={key: _loose(value) for key, value in ours.items()} if loose else ours)


def _loose(value: object) -> object:
    """A number as a text: outside our own format nobody can be asked for quotes."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return str(int(value)) if value == value and float(value).is_integer() else str(value)


def _name(line: Line, ids: Collection[str]) -> str:
    name = line.text(_key(line, KEYS["id"]))
    if name not in ids:
        raise InputError(f"{line.place}: {unknown('question', name, ids)}")
    return name


def _key(line: Line, names: Sequence[str]) -> str:
    there = [name for name in names if name in line.record]
    if len(there) > 1:
        raise InputError(f"{line.place}: has both {there[0]} and {there[1]}; remove one")
    return there[0] if there else names[0]
