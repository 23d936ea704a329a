"""Read recorded responses of other tools as samples, from JSON Lines, JSON, CSV, TSV or Parquet files."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError, invalid_rows, unknown
from jmedllm.evaluation.benchmarks.columns import (
    RESPONSE_NAMES,
    Map,
    as_option,
    called_here,
    columns_of,
    require_fields,
    suggest,
    with_our_names,
)
from jmedllm.evaluation.benchmarks.file_formats import JSON_KINDS, RowOrError, records
from jmedllm.evaluation.benchmarks.rows import InputRow
from jmedllm.evaluation.records import Sample, split_sample
from jmedllm.models.backends.base import COMPLETE, CUT

KEYS = {"id": ("id", "problem_id"), "response": ("response", "prediction")}
"""Accepted names of each required field."""

REASONING = ("reasoning", "reasoning_content", "thinking")
"""Accepted names of a thought that is separate from the response."""

FINISH = ("finish_reason", "finishReason", "done_reason", "stop_reason", "stopReason")
"""Accepted names of the finish reason; vLLM also writes the string that ended a response, as `stop_reason`."""

_NAMES = KEYS | {FINISH[0]: FINISH, REASONING[0]: REASONING}

RESPONSE_FIELDS = (*KEYS, FINISH[0], REASONING[0], "thought_open")
"""Fields that a mapping of responses may name."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Recorded responses.

    Attributes:
        samples: samples by question id.
        skipped: places of invalid rows that were skipped.
    """

    samples: dict[str, Sample]
    skipped: tuple[str, ...]


def read_responses(files: Sequence[Path], known: Iterable[str]) -> dict[str, str]:
    """Return the texts of the responses by question id; see `read_recorded`."""
    return {name: sample.response or "" for name, sample in read_recorded(files, known).samples.items()}


def recorded_sample(name: str, text: str, **known: Any) -> Sample:
    """Convert a recorded response to a sample; `known` are other fields of the sample."""
    sample = split_sample(Sample(name, "", "", response=text, **{"thought_open": None, **known}))
    # It is unknown whether the text includes the prompt, so scorers search it for markers.
    return replace(sample, decoded=sample.response)


def read_recorded(
    files: Sequence[Path], known: Iterable[str], columns: Map | None = None, *, skip_invalid: bool = False
) -> Recorded:
    """Read responses as samples from JSON Lines, JSON, CSV, TSV or Parquet files, in any order.

    A row may also have `finish_reason`, `thought_open` and `reasoning`, as servers return them.

    Args:
        files: one or more files.
        known: ids of the questions.
        columns: columns of the fields in `RESPONSE_FIELDS`.
        skip_invalid: skip invalid rows.

    Raises:
        InputError: rows are invalid, or their ids are unknown or repeated (the message names up to 20); or there is no
            response.
    """
    ids = set(known)
    require_fields(columns or {}, RESPONSE_FIELDS)
    samples: dict[str, Sample] = {}
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
                samples[name] = _sample(name, row)
                places[name] = row.place
            except InputError as error:
                problems.append((row.place if isinstance(row, InputRow) else str(row).partition(": ")[0], error))
    if problems and not skip_invalid:
        raise invalid_rows([error for _, error in problems], "fix them, or skip them with --skip-invalid")
    if not samples:
        first = f"; every row is invalid, the first one: {problems[0][1]}" if problems else ""
        raise InputError(f"{', '.join(map(str, files))}: has no response; check that it is the right file{first}")
    return Recorded(samples, tuple(place for place, _ in problems))


def _sample(name: str, line: InputRow) -> Sample:
    """Convert a row to a sample."""
    reasoning = ""
    for key in REASONING:
        if line.record.get(key) is not None:
            reasoning = line.text(key, may_be_empty=True) or reasoning
    response = _key(line, KEYS["response"])
    # Servers return null as the response if there is only a thought.
    alone = bool(reasoning) and response in line.record and line.record[response] is None
    text = "" if alone else line.text(response, may_be_empty=True)
    return recorded_sample(
        name,
        text,
        finish_reason=_finish_reason(line),
        # A separate thought is not in the response, whoever opened it.
        thought_open=False if reasoning else _thought_open(line),
        reasoning=reasoning or None,
    )


def _finish_reason(line: InputRow) -> str | None:
    key = next((name for name in FINISH if name in line.record), FINISH[0])
    if line.record.get(key) in (None, ""):
        return None
    reason = line.text(key).lower()
    if reason not in COMPLETE | CUT:
        raise line.wrong(key, f"null or one of {', '.join(sorted(COMPLETE | CUT))}")
    return reason


def _thought_open(line: InputRow) -> bool | None:
    value = line.record.get("thought_open")
    if value is None or value == "":
        return None
    # Files without types, such as CSV, contain it as a word.
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return line.boolean("thought_open")


def _rows(path: Path, columns: Map) -> Iterator[RowOrError]:
    """Read the rows of a file with columns renamed to the accepted names.

    Raises:
        InputError: no row has the fields; the message suggests a mapping.
    """
    rows = list(records(path))
    names = columns_of(rows)
    without = [each for each in KEYS if each not in columns and not {*KEYS[each]} & {*names}]
    if found := suggest(names, without, RESPONSE_NAMES):
        option = as_option({**columns, **found})
        raise InputError(f"{path}: {called_here(found)}; rename it, or read the file with --map-responses {option}")
    replaced = {name for each in columns for name in _NAMES.get(each, ()) if name != each}
    loose = bool(columns) or path.suffix.lower() not in JSON_KINDS
    for row in with_our_names(rows, columns):
        if isinstance(row, InputError):
            yield row
            continue
        ours = {key: value for key, value in row.record.items() if key not in replaced}
        yield replace(row, record={key: _loose(value) for key, value in ours.items()} if loose else ours)


def _loose(value: object) -> object:
    """Convert a number to text and a list of one element to that element, so that files need no quotes."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    return str(int(value)) if value == value and float(value).is_integer() else str(value)


def _name(line: InputRow, ids: Collection[str]) -> str:
    name = line.text(_key(line, KEYS["id"]))
    if name not in ids:
        raise InputError(f"{line.place}: {unknown('question', name, ids)}")
    return name


def _key(line: InputRow, names: Sequence[str]) -> str:
    there = [name for name in names if name in line.record]
    if len(there) > 1:
        raise InputError(f"{line.place}: has both {there[0]} and {there[1]}; remove one")
    return there[0] if there else names[0]
