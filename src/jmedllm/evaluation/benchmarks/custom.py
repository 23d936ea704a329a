"""Custom questions, in any of the formats that `file_formats` reads.

A record is `{"id", "question", "choices": [...], "answer": ["c"]}`. `"language"`, `"select"`, `"points"`,
`"subject"` and `"image"` are optional. `"answer": []` means that no answer is right, `[["a"], ["c"]]` that either is.
Without choices the answer is a number such as "7.2", or the record has a `"reference"` or a `"rubric"` for an answer
in free text. Files with other names are read through a mapping, see `columns`.
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
from jmedllm.evaluation.benchmarks.columns import (
    QUESTION_NAMES,
    FieldSource,
    as_option,
    our_name,
    require_fields,
    resolve,
    suggest,
)
from jmedllm.evaluation.benchmarks.file_formats import JSON_KINDS, RowOrError, records
from jmedllm.evaluation.benchmarks.parsed_row import FIELDS, FREE_TEXT, ColumnLayout, ParsedRow, parse_row
from jmedllm.evaluation.benchmarks.rows import InputRow
from jmedllm.evaluation.question import LANGUAGES, Language, Question, label, language_of

ANSWER_FORM = "answer_form"
MAP_FIELDS = (*FIELDS, ANSWER_FORM)
"""What a mapping may name."""

SKIP_HINT = "fix them, or leave them out with --skip-invalid (skip_invalid: true in a recipe)"

_REQUIRED = ("question", "choices", "answer")
_REQUIRED_FREE_TEXT = ("question",)
"""Required fields of a file that has a column of `FREE_TEXT`; its rows without one still need choices or a number."""

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
        """The options in the settings of a result."""
        return ReadOptions(tuple(settings.get("map", {}).items()), settings.get("skip_invalid", False))

    def settings(self) -> dict[str, object]:
        """All options that differ from the default, as plain values."""
        mapped: dict[str, object] = {"map": dict(self.map)} if self.map else {}
        return mapped | ({"skip_invalid": True} if self.skip_invalid else {})


DEFAULT_READ_OPTIONS = ReadOptions()


@dataclass(frozen=True, slots=True)
class CustomExam:
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


def read_exam(path: Path, options: ReadOptions = DEFAULT_READ_OPTIONS) -> CustomExam:
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
def _read_once(path: Path, options: ReadOptions, state: tuple[int, int]) -> CustomExam:
    return _read(path, options)


def read_all(path: Path, options: ReadOptions = DEFAULT_READ_OPTIONS) -> list[Question]:
    """Return the questions of `read_exam`."""
    return list(read_exam(path, options).questions)


def read(path: Path, language: Language, options: ReadOptions = DEFAULT_READ_OPTIONS) -> list[Question]:
    """Read the questions in one language; rows in the other language are checked too.

    Raises:
        InputError: see `read_exam`, or the language has no question.
    """
    every = read_exam(path, options).questions
    if not every:
        raise InputError(f"{path}: the file has no question")
    chosen = [question for question in every if question.language == language]
    if not chosen:
        raise InputError(f'{path}: no question with "language": "{language}"; choose another --language')
    return chosen


def _read(path: Path, options: ReadOptions) -> CustomExam:
    mapping = dict(options.map)
    require_fields(mapping, MAP_FIELDS)
    wanted = _form(mapping.pop(ANSWER_FORM, None))
    header = not any(column.startswith("#") for column in mapping.values())
    rows = list(records(path, header=header))
    layout, unread = _layout(path, rows, mapping)
    problems: dict[int, InputError] = {}
    parsed: dict[int, ParsedRow] = {}
    for place, row in enumerate(rows):
        try:
            parsed[place] = _parse(row, layout)
        except InputError as error:
            problems[place] = error
    languages = _languages(parsed, problems)
    chosen = [each for each in parsed.values() if each.answer.choices and each.answer.written != []]
    found = {id(each): interpretations(each.answer) for each in chosen}
    form = choose_form(path, [(each.row.place, each.answer, found[id(each)]) for each in chosen], wanted)
    questions: dict[tuple[str, Language], tuple[int, Question]] = {}
    for place, language in languages.items():
        each = parsed[place]
        try:
            question = _question(each, found.get(id(each), {}), form, language, place + 1)
            before, _ = questions.setdefault((question.id, language), (place, question))
            if before != place:
                other = parsed[before].row
                raise each.row.wrong("id", f"an id of its own ({other.unit or 'line'} {other.number} has the same)")
        except InputError as error:
            problems[place] = error
    if problems and not options.skip_invalid:
        raise invalid_rows([problems[place] for place in sorted(problems)], SKIP_HINT)
    if problems and not questions:
        raise InputError(f"{path}: every row is invalid; the first one: {problems[min(problems)]}")
    skipped = tuple(_place_of(rows[place], problems[place]) for place in sorted(problems))
    kept = [parsed[place] for place, _ in questions.values()]
    notes = (*unread, *_notes(kept, form, [question for _, question in questions.values()]))
    if skipped:
        notes = (*notes, _skipped_note(path, skipped, len(rows)))
    return CustomExam(tuple(question for _, question in questions.values()), skipped, _of(path, notes))


def _form(written: str | None) -> KeyForm | None:
    for form in KEY_FORMS:
        if form == written:
            return form
    if written is not None:
        raise unknown("answer_form in map", written, KEY_FORMS)
    return None


def _place_of(row: RowOrError, problem: InputError) -> str:
    """The place of an invalid row, without its content, which may be private."""
    return row.place if isinstance(row, InputRow) else str(problem).partition(": ")[0]


def _layout(
    path: Path, rows: Sequence[RowOrError], mapping: Mapping[str, str]
) -> tuple[ColumnLayout, tuple[str, ...]]:
    """Find the column of each field; also return a note on columns that are not read.

    Raises:
        InputError: the mapping names an unknown column, or there is no mapping and the names are not ours.
    """
    valid = [row for row in rows if isinstance(row, InputRow)]
    columns = list(dict.fromkeys(key for row in valid for key in row.record))
    strict = not mapping and path.suffix.lower() in JSON_KINDS
    sources: dict[str, FieldSource] = {}
    for field in FIELDS:
        if valid and field in mapping:
            try:
                sources[field] = resolve(field, mapping[field], columns, LANGUAGES if field == "language" else ())
            except InputError as error:
                raise InputError(f"{path}: {error}") from None
        elif field in columns or strict:
            sources[field] = FieldSource((field,))
    below = "choices" in mapping and sources.get("choices") == sources.get("question")
    read = {column.partition(".")[0] for source in sources.values() for column in source.columns} | {
        column for source in sources.values() for column in source.columns
    }
    unread = [column for column in columns if column not in read]
    first = next((row for row in valid if unread and unread[0] in row.record), None)
    if first and not mapping and (suggest(columns, FIELDS, QUESTION_NAMES) if not strict else _in_most(unread, valid)):
        raise _foreign(first, unread, columns)
    required = _REQUIRED_FREE_TEXT if any(field in sources for field in FREE_TEXT) else _REQUIRED
    missing = [field for field in required if field not in sources]
    if valid and not strict and missing:
        found = as_option(dict(mapping) | suggest(columns, missing, QUESTION_NAMES))
        raise InputError(
            f"{path}: no column for {' and '.join(missing)}; columns: {', '.join(columns)}; name them with --map "
            f"{found or 'question=COLUMN,choices=FIRST:LAST,answer=COLUMN'}"
            + ("; choices below the question: name its column for both" if "choices" in missing else "")
        )
    if first and not mapping and not strict:
        raise _foreign(first, unread, columns)
    note = (f"not read: {', '.join(unread)}",) if unread and not strict else ()
    return ColumnLayout(sources, strict, below), note


def _in_most(unread: Sequence[str], valid: Sequence[InputRow]) -> bool:
    """Whether most rows have an unknown key: then the whole file has another format, not one row."""
    return 2 * sum(any(key in row.record for key in unread) for row in valid) > len(valid)


def _foreign(row: InputRow, unread: Sequence[str], columns: Sequence[str]) -> InputError:
    """The error for keys that are not ours, with the mapping that reads them."""
    found = suggest(columns, FIELDS, QUESTION_NAMES)
    called = next(((key, field) for key in unread if (field := our_name(key, QUESTION_NAMES))), None)
    if called is not None and called[1] in found:
        name, field = called
        return InputError(
            f'{row.place}: unknown key {name!r}: "{name}" is called "{field}" here; rename it, or read the file '
            f"with --map {as_option(found)} (in a recipe: map)"
        )
    if found:
        return InputError(
            f"{row.place}: unknown key {unread[0]!r}: read the file with --map {as_option(found)} (in a recipe: map)"
        )
    problem = unknown("key", unread[0], FIELDS)
    if "known: " not in str(problem):
        return InputError(f"{row.place}: {problem}")
    return InputError(
        f"{row.place}: {problem}; to read only what is known, name it: --map question=question (in a recipe: map)"
    )


def _parse(row: RowOrError, layout: ColumnLayout) -> ParsedRow:
    if isinstance(row, InputError):
        raise row
    for key in row.record if layout.strict else ():
        if key not in FIELDS:
            raise _foreign(row, [key], list(row.record))
    return parse_row(row, layout)


def _languages(parsed: Mapping[int, ParsedRow], problems: dict[int, InputError]) -> dict[int, Language]:
    """Return the language of each row: the one it names, else the one of its script.

    Where the script does not decide, and for a question without kana or kanji in a Japanese exam, the other rows of
    the file decide. A row without any evidence becomes a problem.
    """
    texts = {p: " ".join((each.stem, *each.answer.choices)) for p, each in parsed.items() if each.language is None}
    japanese = {place for place, text in texts.items() if language_of(text) == "ja"}
    every = [*(each.language for each in parsed.values() if each.language), *("ja" for _ in japanese)]
    found: dict[int, Language] = {}
    for place, each in parsed.items():
        if each.language is not None:
            found[place] = each.language
        elif place in japanese or len(japanese) >= _MOSTLY * len(texts):
            found[place] = "ja"
        elif any(sign.isalpha() for sign in texts[place]):
            found[place] = "en"
        elif every:
            found[place] = "ja" if 2 * every.count("ja") >= len(every) else "en"
        else:
            problems[place] = each.row.wrong("language", f"one of {', '.join(LANGUAGES)}")
    return found


def _question(
    each: ParsedRow, found: Mapping[KeyForm, GoldSets], form: KeyForm, language: Language, number: int
) -> Question:
    golds = _golds(each, found, form)
    select = each.select or max(1, len(golds[0]))
    if golds[0] and select != len(golds[0]):
        raise each.row.wrong("select", f"{len(golds[0])}, the number of letters in the answer")
    return Question(
        id=str(number) if each.id is None else each.id,
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


def _notes(kept: Sequence[ParsedRow], form: KeyForm, questions: Sequence[Question]) -> list[str]:
    """What the reader decided for the user, with counts."""
    found = []
    if form != "letter":
        found.append(f"answers read as {KEY_FORM_NAMES[form]}")
    if count := sum(each.id is None for each in kept):
        found.append(f"without an id, named by the number of their row: {count:,}")
    if count := sum(each.relabelled for each in kept):
        found.append(f"labels in front of the choices removed: {count:,} of {len(kept):,} questions")
    if count := sum(not each.stem.strip() for each in kept):
        found.append(f"choices without a question text, kept: {count:,}")
    if count := sum(bool(question.also_right) for question in questions):
        found.append(f"with several right answers, any of which counts: {count:,}")
    if count := sum(not each.answer.choices and not each.is_free_text for each in kept):
        found.append(f"without choices, answered by a number: {count:,}")
    if count := sum(each.is_free_text for each in kept):
        found.append(f"answered in free text: {count:,}")
    guessed = Counter(q.language for each, q in zip(kept, questions, strict=True) if each.language is None)
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
