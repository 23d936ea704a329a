"""Parse one row of a user's questions, except the answer, whose form depends on the whole file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks.answer_keys import RawAnswer, default_labels, from_text, plain
from jmedllm.evaluation.benchmarks.choice_labels import split_choices, strip_labels
from jmedllm.evaluation.benchmarks.columns import FieldSource
from jmedllm.evaluation.benchmarks.pictures import find_pictures
from jmedllm.evaluation.benchmarks.rows import InputRow
from jmedllm.evaluation.order import ROTATION_MARK
from jmedllm.evaluation.question import LANGUAGES, Language, Picture, canonical_number

FIELDS = (
    "id", "question", "choices", "answer", "reference", "rubric", "language", "select", "points", "subject", "image",
    "images",
)  # fmt: skip
FREE_TEXT = ("reference", "rubric")
"""A question with one of these needs neither choices nor an answer."""

_SPOKEN: Mapping[str, Language] = {
    "ja": "ja", "jp": "ja", "jpn": "ja", "japanese": "ja", "日本語": "ja", "ja-jp": "ja",
    "en": "en", "eng": "en", "english": "en", "英語": "en", "en-us": "en", "en-gb": "en",
}  # fmt: skip
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}

_TEXT_KEYS = ("text", "content", "value", "choice", "option", "answer")
_LABEL_KEYS = ("label", "key", "id", "letter", "idx")


@dataclass(frozen=True, slots=True)
class ColumnLayout:
    """The column of each field.

    Attributes:
        sources: our field → its columns.
        strict: whether the file uses our names and types, so that another type is an error.
        below: whether the choices are below the question in the same text.
    """

    sources: Mapping[str, FieldSource]
    strict: bool
    below: bool = False

    def ours(self, row: InputRow) -> InputRow:
        """Return the record with our names. Unless the file is strict, empty fields are dropped."""
        found = {field: source.value(row.record) for field, source in self.sources.items()}
        if self.strict:
            found = {field: value for field, value in found.items() if field in row.record}
        else:
            found = {field: value for field, value in found.items() if not _is_empty(value)}
        return InputRow(row.path, row.number, found, row.unit)


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A question whose answer is not interpreted yet.

    Attributes:
        row: the record with our names.
        id: None if the file has none.
        language: None if the file does not name it.
        answer: the answer as written, with the choices that it refers to.
        relabelled: whether labels were stripped from the choices.
    """

    row: InputRow
    id: str | None
    stem: str
    language: Language | None
    answer: RawAnswer
    number: str | None
    select: int | None
    points: int
    subject: str | None
    image: bool
    images: tuple[Picture, ...]
    relabelled: bool
    reference: str | None
    rubric: str | None

    @property
    def is_free_text(self) -> bool:
        """Whether the question asks for an answer in free text."""
        return not self.answer.choices and (self.reference is not None or self.rubric is not None)


def parse_row(row: InputRow, layout: ColumnLayout) -> ParsedRow:
    """Parse one row.

    Raises:
        InputError: a field is missing or invalid; the message names the row and the field.
    """
    ours = layout.ours(row)
    images = find_pictures(ours, strict=layout.strict)
    stem, below = _stem(ours, layout)
    reference, rubric = (_free_text(ours, field) for field in FREE_TEXT)
    is_free = reference is not None or rubric is not None
    texts, keys = (below, None) if layout.below else _choices(ours, layout, may_be_missing=is_free)
    if len(texts) == 1:
        raise ours.wrong("choices", "two or more texts, or none for a number or free text")
    if not stem.strip() and not texts:
        raise ours.wrong("question", "a text")
    answer, relabelled = _raw_answer(ours, texts, keys)
    return ParsedRow(
        row=ours,
        id=_id(ours, layout),
        stem=stem,
        language=_language(ours, layout),
        answer=answer,
        number=None if texts or (is_free and _is_missing(answer.written)) else _number(ours, layout),
        select=_whole(ours, "select", 1, max(1, len(texts)), layout) if "select" in ours.record else None,
        points=_whole(ours, "points", 0, None, layout) if "points" in ours.record else 1,
        subject=_subject(ours, layout),
        image=bool(images) or _truth(ours, layout),
        images=images,
        relabelled=relabelled,
        reference=reference,
        rubric=rubric,
    )


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or _is_nan(value)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _as_text(value: Any) -> str:
    """A cell as text; empty if the cell is. 3.0 becomes "3": a column of whole numbers with a gap has floats."""
    if _is_empty(value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _stem(ours: InputRow, layout: ColumnLayout) -> tuple[str, tuple[str, ...]]:
    """Return the question, and the choices below it if they are in the same text."""
    value = ours.record.get("question", None if layout.strict else "")
    if isinstance(value, list) and not layout.strict:
        value = "\n".join(text for each in value if (text := _as_text(each)))
    if not isinstance(value, str):
        raise ours.wrong("question", "a text")
    return split_choices(value) if layout.below else (value, ())


def _free_text(ours: InputRow, field: str) -> str | None:
    """Return a reference answer or a rubric: a text, or a list of texts, one for each line."""
    if _is_missing(value := ours.record.get(field)):
        return None
    given = value if isinstance(value, list) else [value]
    texts = [text for text in given if isinstance(text, str) and text.strip()]
    if len(texts) < len(given):
        raise ours.wrong(field, "a text or a list of texts")
    return "\n".join(texts)


def _is_missing(value: Any) -> bool:
    return _is_empty(value) or value == []


def _choices(
    ours: InputRow, layout: ColumnLayout, *, may_be_missing: bool
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Texts of the choices as the file has them, and the keys they are listed under."""
    value = ours.record.get("choices", None if layout.strict and not may_be_missing else [])
    if isinstance(value, str) and not layout.strict:
        value = from_text(value)
        if isinstance(value, str):
            value = list(split_choices(f"?\n{value}")[1]) or value
    keys: tuple[str, ...] | None = None
    if isinstance(value, dict):
        value, keys = _from_object(value)
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        value, keys = _from_objects(value)
    if isinstance(value, list) and not layout.strict:
        value = _texts(value)
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise ours.wrong("choices", "a list of texts")
    return tuple(value), keys and keys[: len(value)]


def _texts(cells: list[Any]) -> list[str]:
    """Cells as texts, without empty ones at the end."""
    texts = [_as_text(cell) for cell in cells]
    while texts and not texts[-1]:
        texts.pop()
    return texts


def _from_object(value: dict[str, Any]) -> tuple[list[Any], tuple[str, ...]]:
    """`{"A": text, ...}`, or `{"text": [...], "label": [...]}`."""
    for text_key in _TEXT_KEYS:
        for label_key in _LABEL_KEYS:
            texts, keys = value.get(text_key), value.get(label_key)
            if isinstance(texts, list) and isinstance(keys, list) and len(texts) == len(keys):
                return texts, tuple(map(str, keys))
    texts = list(value.values())
    while texts and _is_empty(texts[-1]):
        texts.pop()
    return texts, tuple(map(str, value))


def _from_objects(value: list[dict[str, Any]]) -> tuple[list[Any], tuple[str, ...] | None]:
    """`[{"label": "A", "text": text}, ...]`."""
    text_key = next((key for key in _TEXT_KEYS if all(key in each for each in value)), "text")
    label_key = next((key for key in _LABEL_KEYS if all(key in each for each in value)), None)
    texts = [each.get(text_key) for each in value]
    return texts, tuple(str(each[label_key]) for each in value) if label_key else None


def _raw_answer(ours: InputRow, texts: tuple[str, ...], keys: tuple[str, ...] | None) -> tuple[RawAnswer, bool]:
    """Return the answer with its choices, and whether labels were stripped from them."""
    try:
        bare = strip_labels(texts)
    except ValueError as error:
        raise InputError(
            f'{ours.place}: field "choices": they are labelled {error}: one is missing, misplaced or joined to '
            "another; fix this row"
        ) from None
    answer = ours.record.get("answer")
    listed = keys is not None and len(set(keys)) == len(texts) and all(len(key) <= 2 for key in keys)
    if keys is not None and listed:
        return RawAnswer(bare[0] if bare else texts, tuple(map(plain, keys)), True, answer), bare is not None
    if bare:
        return RawAnswer(bare[0], bare[1], True, answer), True
    return RawAnswer(texts, default_labels(len(texts)), False, answer), False


def _id(ours: InputRow, layout: ColumnLayout) -> str | None:
    if layout.strict:
        value = ours.record.get("id")
        if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
            raise ours.wrong("id", "a text or a whole number")
        name = str(value)
    elif "id" not in ours.record:
        return None
    else:
        name = _as_text(ours.record["id"])
    if ROTATION_MARK in name:
        raise ours.wrong("id", f'a text without "{ROTATION_MARK}", which marks rotated choices in results')
    return name


def _language(ours: InputRow, layout: ColumnLayout) -> Language | None:
    if "language" not in ours.record:
        return None
    value = ours.record["language"]
    known: Mapping[str, Language] = {each: each for each in LANGUAGES} if layout.strict else _SPOKEN
    if isinstance(value, str) and (spoken := known.get(value if layout.strict else plain(value))):
        return spoken
    raise ours.wrong("language", f"one of {', '.join(LANGUAGES)}")


def _number(ours: InputRow, layout: ColumnLayout) -> str | None:
    answer = ours.record.get("answer")
    if answer == []:
        return None
    if isinstance(answer, list) and len(answer) == 1 and not layout.strict:
        answer = answer[0]
    text = answer if isinstance(answer, str) else "" if isinstance(answer, bool) else _as_text(answer)
    try:
        return canonical_number(text.strip() if not layout.strict else text)
    except ValueError as error:
        raise ours.wrong("answer", 'a number in quotes such as "7.2", since there are no choices') from error


def _whole(ours: InputRow, field: str, low: int, high: int | None, layout: ColumnLayout) -> int:
    text = "" if layout.strict else _as_text(ours.record[field])
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return ours.integer(field, low, high)
    return replace(ours, record={**ours.record, field: int(text)}).integer(field, low, high)


def _subject(ours: InputRow, layout: ColumnLayout) -> str | None:
    if "subject" not in ours.record:
        return None
    return ours.text("subject") if layout.strict else _as_text(ours.record["subject"])


def _truth(ours: InputRow, layout: ColumnLayout) -> bool:
    if "image" not in ours.record:
        return False
    value = ours.record["image"]
    if isinstance(value, list) and not layout.strict:
        return bool(value)  # file names of images
    known = None if layout.strict else _TRUTH.get(_as_text(value).strip().lower())
    return ours.boolean("image") if known is None else known
