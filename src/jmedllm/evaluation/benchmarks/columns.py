"""Map the columns of a file to question fields, by a mapping such as `question=stem,choices=A:E,answer=key`."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.benchmarks.file_formats import RowOrError
from jmedllm.evaluation.benchmarks.rows import InputRow

Map = Mapping[str, str]
"""Our field → the column, or columns, of the file."""

QUESTION_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("qid", "question_id", "problem_id", "sample_id", "item_id", "uid", "uuid", "_id", "idx", "number",
           "no", "問題番号", "番号"),
    "question": ("query", "prompt", "input", "stem", "problem", "problem_text", "question_text", "question_stem",
                 "text", "instruction", "ques", "q", "sent1", "問題", "問題文", "設問"),
    "choices": ("options", "option", "opts", "choice", "candidates", "answer_choices", "answer_options", "answers",
                "alternatives", "endings", "選択肢"),
    "answer": ("answer_idx", "answer_index", "answer_key", "answerkey", "correct", "correct_answer",
               "correct_answers", "correct_option", "correct_choice", "correct_idx", "correct_index", "gold",
               "gold_label", "gold_answer", "label", "target", "cop", "key", "gt", "ground_truth",
               "final_decision", "解答", "正解", "正答", "回答"),
    "language": ("lang",),
    "select": ("num_choices_to_select", "num_answers", "n_answers"),
    "points": ("point", "score", "marks"),
    "subject": ("subject_name", "category", "topic", "topic_name", "meta_info", "科目"),
    "image": ("has_image", "requires_image", "has_images"),
    "images": ("clinical_images", "image_paths", "image_path", "image_files", "image_file", "pictures", "画像"),
}  # fmt: skip
"""Names of our fields in other data sets, most common first."""

RESPONSE_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("qid", "question_id", "sample_id", "item_id", "uid", "uuid", "_id", "doc_id", "custom_id", "idx",
           "問題番号"),
    "response": ("response_text", "output", "completion", "text", "generated_text", "generation", "model_output",
                 "model_response", "model_answer", "pred", "predicted", "predicted_answer", "answer", "resps",
                 "raw_response", "reply", "回答"),
}  # fmt: skip

_SERIES = re.compile(r"(?P<stem>.*?)[ _-]?(?P<mark>[a-j]|[0-9])", re.IGNORECASE)
"""A column with one choice: opa, A, option_b, choice0, 選択肢1."""


class UnmappedColumnsError(InputError):
    """The columns of a file have other names than our fields.

    Attributes:
        mapping: the suggested mapping, as text for --map; empty if there is none.
    """

    def __init__(self, message: str, mapping: str) -> None:
        super().__init__(message)
        self.mapping = mapping


def parse_map(text: str | None, fields: Iterable[str]) -> dict[str, str]:
    """Parse the mapping of an option: `field=column`, separated by commas.

    Raises:
        InputError: the text has another form, or a field is unknown.
    """
    found: dict[str, str] = {}
    for part in (text or "").split(",") if text else ():
        field, equals, column = (each.strip() for each in part.partition("="))
        if not equals or not field or not column:
            raise InputError(f"--map {part!r}: write field=column, such as question=stem,choices=A:E,answer=key")
        if field in found:
            raise InputError(f"--map: {field} is given twice; choose one")
        found[field] = column
    require_fields(found, fields)
    return found


def require_fields(mapping: Map, fields: Iterable[str]) -> None:
    """Check that a mapping names known fields.

    Raises:
        InputError: a field is unknown; the message names the nearest ones.
    """
    known = tuple(fields)
    for field in mapping:
        if field not in known:
            raise unknown("field in map", field, known)


@dataclass(frozen=True, slots=True)
class FieldSource:
    """The columns or the constant that give a field's value.

    Attributes:
        columns: names of columns.
        constant: the value for every record, if there are no columns.
        several: whether the value is the list of the columns' values.
    """

    columns: tuple[str, ...] = ()
    constant: Any = None
    several: bool = False

    def value(self, record: Mapping[str, Any]) -> Any:
        """Return the field's value in a record; None if it has none."""
        if self.several:
            return [_at(record, column) for column in self.columns]
        return _at(record, self.columns[0]) if self.columns else self.constant


def _at(record: Mapping[str, Any], column: str) -> Any:
    if column in record:
        return record[column]
    value: Any = record
    for part in column.split("."):
        if isinstance(value, list) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else None
        else:
            value = value.get(part) if isinstance(value, Mapping) else None
    return value


def resolve(field: str, written: str, columns: Sequence[str], constants: Iterable[str] = ()) -> FieldSource:
    """Resolve one entry of a mapping.

    It may be `name`, `first:last` (in the order of the file), `one+two`, `outer.inner` (for a list a position from
    0), one of the constants, or a list of texts (`yes|no`).

    Raises:
        InputError: a column is unknown; the message names the nearest ones.
    """
    if _is_column(written, columns):
        return FieldSource((written,))
    if written in constants:
        return FieldSource(constant=written)
    if "|" in written:
        return FieldSource(constant=[each.strip() for each in written.split("|")])
    first, colon, last = written.partition(":")
    if colon and first in columns and last in columns:
        begin, end = columns.index(first), columns.index(last)
        if begin >= end:
            raise InputError(f"map {field}={written}: column {last} does not follow {first} in the file")
        return FieldSource(tuple(columns[begin : end + 1]), several=True)
    begin_name, _, end_name = (each.strip() for each in written.partition("-"))
    if begin_name in columns and end_name in columns:
        raise InputError(f"map {field}={written}: a range of columns is written {field}={begin_name}:{end_name}")
    parts = [part.strip() for part in re.split(r"[+:]", written)]
    for part in parts:
        if not _is_column(part, columns):
            raise InputError(f"map {field}={written}: {unknown('column', part, columns)}")
    return FieldSource(tuple(parts), several=True)


def columns_of(rows: Iterable[RowOrError]) -> list[str]:
    """Return the columns of all readable rows, in order of first use."""
    return list(dict.fromkeys(key for row in rows if isinstance(row, InputRow) for key in row.record))


def with_our_names(rows: Sequence[RowOrError], mapping: Map) -> list[RowOrError]:
    """Return the rows with each mapped field under our name, beside the columns of the file.

    Raises:
        InputError: a column is unknown.
    """
    columns = columns_of(rows)
    sources = {field: resolve(field, column, columns) for field, column in mapping.items()} if columns else {}
    return [
        replace(row, record={**row.record, **{field: source.value(row.record) for field, source in sources.items()}})
        if isinstance(row, InputRow)
        else row
        for row in rows
    ]


def called_here(found: Map) -> str:
    """Describe a suggested mapping in an error: which column has which name here."""
    return ", ".join(f'"{column}" is called "{field}" here' for field, column in found.items())


def _is_column(name: str, columns: Sequence[str]) -> bool:
    return name in columns or ("." in name and name.partition(".")[0] in columns)


def suggest(columns: Sequence[str], fields: Iterable[str], names: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Suggest a mapping for these columns, without the fields that have a column of our name."""
    lower = {column.lower().replace(" ", "_"): column for column in reversed(columns)}
    found: dict[str, str] = {}
    for field in fields:
        if field in columns or field not in names:
            continue
        column = next((lower[name] for name in (field, *names[field]) if name in lower), None)
        if field == "choices" and (series := _series(columns)):
            column = series
        if column is not None and column not in found.values():
            found[field] = column
    return found


def _series(columns: Sequence[str]) -> str | None:
    """Columns with one choice each, as a range."""
    series: dict[str, list[tuple[int, str]]] = {}
    for place, column in enumerate(columns):
        match = _SERIES.fullmatch(column)
        if match:
            series.setdefault(match["stem"].lower(), []).append((place, column))
    best = max(series.values(), key=len, default=[])
    if len(best) < 2:
        return None
    together = best[-1][0] - best[0][0] == len(best) - 1
    return f"{best[0][1]}:{best[-1][1]}" if together else "+".join(column for _, column in best)


def as_option(mapping: Map) -> str:
    """Format a mapping for --map."""
    return ",".join(f"{field}={column}" for field, column in mapping.items())


def our_name(name: str, names: Mapping[str, tuple[str, ...]]) -> str | None:
    """Return our field that other data sets call `name`."""
    lower = name.lower().replace(" ", "_")
    return next((field for field, others in names.items() if lower in (field, *others)), None)
