"""Custom questions, in any of the formats that `file_formats` reads.

A record is `{"id", "question", "choices": [...], "answer": ["c"]}`. `"language"`, `"select"`, `"points"`, `"subject"`,
`"image"` and `"images"` (paths of pictures) are optional. `"answer": []` means that no answer is right,
`[["a"], ["c"]]` that either is. Without choices the answer is a number such as "7.2", or the record has a
`"reference"` or a `"rubric"` for an answer in free text. Files with other names are read through a mapping, see
`columns`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from jmedllm.errors import MOST_NAMED, InputError, invalid_rows, unknown
from jmedllm.evaluation.benchmarks.answer_keys import (
    KEY_FORM_NAMES,
    KEY_FORMS,
    GoldSets,
    KeyForm,
    choose_form,
    interpretations,
    is_list_of_lists,
)
from jmedllm.evaluation.benchmarks.column_layout import find_layout, unknown_column
from jmedllm.evaluation.benchmarks.columns import require_fields
from jmedllm.evaluation.benchmarks.file_formats import RowOrError, records
from jmedllm.evaluation.benchmarks.parsed_row import FIELDS, ColumnLayout, ParsedRow, parse_row
from jmedllm.evaluation.benchmarks.rows import InputRow
from jmedllm.evaluation.question import LANGUAGES, Language, Question, label, language_of

ANSWER_FORM = "answer_form"
MAP_FIELDS = (*FIELDS, ANSWER_FORM)
"""What a mapping may name."""

SKIP_HINT = "fix them, or leave them out with --skip-invalid (skip_invalid: true in a recipe)"

_MOSTLY = 0.9
"""From this share of Japanese questions on, a question without kana or kanji counts as Japanese too."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a user's file is read.

    Attributes:
        map: our fields with the file's columns, see `columns.resolve`; and `answer_form`, one of `KEY_FORMS`.
        skip_invalid: leave invalid rows out and count them.
    """

    map: tuple[tuple[str, str], ...] = ()
    skip_invalid: bool = False

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> "ReadOptions":
        """Return the options in the settings of a result."""
        return ReadOptions(tuple(settings.get("map", {}).items()), settings.get("skip_invalid", False))

    def settings(self) -> dict[str, object]:
        """Return all options that differ from the default, as plain values."""
        mapped: dict[str, object] = {"map": dict(self.map)} if self.map else {}
        return mapped | ({"skip_invalid": True} if self.skip_invalid else {})


DEFAULT_READ_OPTIONS = ReadOptions()


@dataclass(frozen=True, slots=True)
class CustomFile:
    """The questions of a user's file.

    Attributes:
        skipped: places of the rows that were left out.
        notes: what the user must know about how the file was read.
    """

    questions: tuple[Question, ...]
    skipped: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def languages(self) -> tuple[Language, ...]:
        """Languages of the questions."""
        spoken = {question.language for question in self.questions}
        return tuple(language for language in LANGUAGES if language in spoken)


def read_file(path: Path, options: ReadOptions = DEFAULT_READ_OPTIONS) -> CustomFile:
    """Read the questions in all languages; the benchmark is named after the file.

    Raises:
        InputError: the file cannot be read, its columns or the form of its answers are unclear, or rows are invalid
            and must not be skipped. The message names up to 20 rows.
    """
    try:
        state = path.stat()
    except OSError:
        return _read(path, options)
    return _read_once(path, options, (state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=4)
def _read_once(path: Path, options: ReadOptions, state: tuple[int, int]) -> CustomFile:
    return _read(path, options)


def read_all(path: Path, options: ReadOptions = DEFAULT_READ_OPTIONS) -> list[Question]:
    """Return the questions of `read_file`."""
    return list(read_file(path, options).questions)


def read(path: Path, language: Language, options: ReadOptions = DEFAULT_READ_OPTIONS) -> list[Question]:
    """Read the questions in one language; rows in the other language are checked too.

    Raises:
        InputError: see `read_file`, or the language has no question.
    """
    every = read_file(path, options).questions
    if not every:
        raise InputError(f"{path}: the file has no question")
    chosen = [question for question in every if question.language == language]
    if not chosen:
        raise InputError(f'{path}: no question with "language": "{language}"; choose another --language')
    return chosen


@dataclass(frozen=True, slots=True)
class _Row:
    """A parsed row with its index in the file."""

    place: int
    parsed: ParsedRow

    @property
    def has_key(self) -> bool:
        """Whether the row names right choices."""
        return bool(self.parsed.answer.choices) and self.parsed.answer.written != []

    @property
    def forms(self) -> Mapping[KeyForm, GoldSets]:
        """The right choices in each form in which the row can be read."""
        return interpretations(self.parsed.answer) if self.has_key else {}


def _read(path: Path, options: ReadOptions) -> CustomFile:
    mapping = dict(options.map)
    require_fields(mapping, MAP_FIELDS)
    wanted = _form(mapping.pop(ANSWER_FORM, None))
    header = not any(column.startswith("#") for column in mapping.values())
    rows = list(records(path, header=header))
    layout, unread = find_layout(path, rows, mapping)
    problems: dict[int, InputError] = {}
    parsed: list[_Row] = []
    for place, record in enumerate(rows):
        try:
            parsed.append(_Row(place, _parse(record, layout)))
        except InputError as error:
            problems[place] = error
    keyed = [row for row in parsed if row.has_key]
    form = choose_form(path, [(row.parsed.row.place, row.parsed.answer, row.forms) for row in keyed], wanted)
    questions: dict[tuple[str, Language], tuple[_Row, Question]] = {}
    for row, language in zip(parsed, _languages([row.parsed for row in parsed]), strict=True):
        try:
            question = _question(row, form, language)
            before, _ = questions.setdefault((question.id, question.language), (row, question))
            if before is not row:
                raise _same_id(row.parsed.row, before.parsed.row)
        except InputError as error:
            problems[row.place] = error
    if problems and not options.skip_invalid:
        raise invalid_rows([problems[place] for place in sorted(problems)], SKIP_HINT)
    if problems and not questions:
        raise InputError(f"{path}: every row is invalid; the first one: {problems[min(problems)]}")
    skipped = tuple(_place_of(rows[place], problems[place]) for place in sorted(problems))
    notes = (*unread, *_notes(form, [(row.parsed, question) for row, question in questions.values()]))
    if skipped:
        notes = (*notes, _skipped_note(path, skipped, len(rows)))
    return CustomFile(tuple(question for _, question in questions.values()), skipped, _of(path, notes))


def _form(written: str | None) -> KeyForm | None:
    for form in KEY_FORMS:
        if form == written:
            return form
    if written is not None:
        raise unknown("answer_form in map", written, KEY_FORMS)
    return None


def _same_id(row: InputRow, other: InputRow) -> InputError:
    return row.wrong("id", f"an id of its own ({other.unit or 'line'} {other.number} has the same)")


def _place_of(row: RowOrError, problem: InputError) -> str:
    """Return the place of an invalid row, without its content, which may be private."""
    return row.place if isinstance(row, InputRow) else str(problem).partition(": ")[0]


def _parse(row: RowOrError, layout: ColumnLayout) -> ParsedRow:
    if isinstance(row, InputError):
        raise row
    for key in row.record if layout.strict else ():
        if key not in FIELDS:
            raise unknown_column(row, [key], list(row.record))
    return parse_row(row, layout)


def _languages(parsed: Sequence[ParsedRow]) -> list[Language | None]:
    """Return the language of each row: the one it names, else the one of its script.

    Where the script does not decide, and for a question without kana or kanji in a Japanese file, the other rows of
    the file decide. A row without any evidence has None.
    """
    texts = [" ".join((each.stem, *each.answer.choices)) for each in parsed]
    unnamed = [text for each, text in zip(parsed, texts, strict=True) if each.language is None]
    japanese = sum(language_of(text) == "ja" for text in unnamed)
    every = [*(each.language for each in parsed if each.language), *["ja"] * japanese]
    others: Language | None = None
    if every:
        others = "ja" if 2 * every.count("ja") >= len(every) else "en"

    def by_script(text: str) -> Language | None:
        if language_of(text) == "ja" or japanese >= _MOSTLY * len(unnamed):
            return "ja"
        return "en" if any(sign.isalpha() for sign in text) else others

    return [each.language or by_script(text) for each, text in zip(parsed, texts, strict=True)]


def _question(row: _Row, form: KeyForm, language: Language | None) -> Question:
    each = row.parsed
    if language is None:
        raise each.row.wrong("language", f"one of {', '.join(LANGUAGES)}")
    golds = _golds(each, row.forms, form)
    select = each.select or max(1, len(golds[0]))
    if golds[0] and select != len(golds[0]):
        raise each.row.wrong("select", f"{len(golds[0])}, the number of letters in the answer")
    return Question(
        id=str(row.place + 1) if each.id is None else each.id,
        benchmark=each.row.path.stem,
        language=language,
        stem=each.stem,
        choices=each.answer.choices,
        gold=golds[0],
        also_right=golds[1:],
        number=each.number,
        select=select,
        points=each.points,
        subject=each.subject,
        flags=frozenset({"image"}) if each.image else frozenset(),
        reference=each.reference,
        rubric=each.rubric,
        images=each.images,
    )


def _golds(each: ParsedRow, found: Mapping[KeyForm, GoldSets], form: KeyForm) -> GoldSets:
    count, answer = len(each.answer.choices), each.answer.written
    if not count or answer == []:
        return (frozenset(),)
    if form in found:
        return found[form]
    if is_list_of_lists(answer):
        raise each.row.wrong("answer", 'a list of different right answers such as [["a"], ["c"]], none of them empty')
    if form == "letter" and not each.answer.has_labels and (isinstance(answer, str) or _is_texts(answer)):
        raise each.row.wrong("answer", f"letters from a to {label(count - 1)}, one for each of {count} choices")
    wanted = {
        "letter": 'a list of letters such as ["c"]'
        if not each.answer.has_labels
        else f"one of the labels {', '.join(each.answer.labels)}",
        "index0": f"a number from 0 to {count - 1}, since the file's answers are indices from 0",
        "index1": f"a number from 1 to {count}, since the file's answers are indices from 1",
        "text": "the text of one of the choices, as elsewhere in the file",
    }
    raise each.row.wrong("answer", wanted[form])


def _is_texts(answer: object) -> bool:
    return isinstance(answer, list) and all(isinstance(each, str) for each in answer)


def _notes(form: KeyForm, read: Sequence[tuple[ParsedRow, Question]]) -> list[str]:
    """Return what the reader decided for the user, with counts."""
    kept = [each for each, _ in read]
    found = []
    if form != "letter":
        found.append(f"answers read as {KEY_FORM_NAMES[form]}")
    if count := sum(each.id is None for each in kept):
        found.append(f"without an id, named by the number of their row: {count:,}")
    if count := sum(each.relabelled for each in kept):
        found.append(f"labels in front of the choices removed: {count:,} of {len(kept):,} questions")
    if count := sum(not each.stem.strip() for each in kept):
        found.append(f"choices without a question text, kept: {count:,}")
    if count := sum(bool(question.also_right) for _, question in read):
        found.append(f"with several right answers, any of which counts: {count:,}")
    if count := sum(not each.answer.choices and not each.is_free_text for each in kept):
        found.append(f"without choices, answered by a number: {count:,}")
    if count := sum(each.is_free_text for each in kept):
        found.append(f"answered in free text: {count:,}")
    if count := sum(bool(each.images) for each in kept):
        found.append(f"with pictures: {count:,}")
    guessed = Counter(question.language for each, question in read if each.language is None)
    if guessed:
        counts = ", ".join(f"{count:,} {language}" for language, count in sorted(guessed.items()))
        found.append(f"language taken from the script: {counts}")
    return found


def _skipped_note(path: Path, skipped: Sequence[str], rows: int) -> str:
    places = [place.removeprefix(str(path)).strip(": ") for place in skipped[:MOST_NAMED]]
    more = f" and {len(skipped) - MOST_NAMED:,} more" if len(skipped) > MOST_NAMED else ""
    return f"invalid rows left out: {len(skipped):,} of {rows:,} ({', '.join(places)}{more})"


def _of(path: Path, notes: Sequence[str]) -> tuple[str, ...]:
    return (f"{path.name}: {'; '.join(notes)}.",) if notes else ()
