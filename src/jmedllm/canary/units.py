"""What a canary can be planted in: documents of a corpus, and records of training data for stage 2."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jmedllm.corpus.documents import Document, as_row
from jmedllm.corpus.language import language
from jmedllm.corpus.readers.compressed import COMPRESSED
from jmedllm.corpus.readers.inputs import LINES, ByteRange, Skipped, find_files, kind, spelled
from jmedllm.corpus.readers.jsonl import numbered_lines
from jmedllm.corpus.readers.reader import read
from jmedllm.errors import InputError, named
from jmedllm.evaluation.benchmarks.columns import QUESTION_NAMES
from jmedllm.evaluation.question import LANGUAGES, Language
from jmedllm.files import read_json, to_json
from jmedllm.parsing import decode_utf8, parse_json
from jmedllm.training.instructions import INSTRUCTION_NAMES

DOCUMENTS_FILE = "documents-00000.jsonl"
"""The file of all planted documents of a corpus."""

Kind = Literal["documents", "answers", "questions"]
"""Where a canary is planted: in documents, in the answers of instructions and conversations, or in questions."""

_ANSWER = ("output", *INSTRUCTION_NAMES["output"])
_INSTRUCTION = ("instruction", *INSTRUCTION_NAMES["instruction"])
_QUESTION, _CHOICES = ((name, *QUESTION_NAMES[name]) for name in ("question", "choices"))
_ARRAY = ".json"
_CONVERSATIONS = {"messages": ("role", "content"), "conversations": ("from", "value")}
_ASSISTANT = ("assistant", "gpt", "chatgpt", "model")
_SENTENCE_END = re.compile(r"[。．！？]|[.!?](?=\s)|$")
_END_OF_THOUGHT = "</think>"


@dataclass(frozen=True, slots=True)
class Unit:
    """A document or record.

    Attributes:
        file: path of the file in the output.
        text: the text that a canary may be inserted into.
        unchanged: its line without one.
        line: returns its line with another text.
    """

    file: str
    where: str
    language: Language | None
    text: str
    unchanged: Callable[[], bytes]
    line: Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Material:
    """The training data of a user.

    Attributes:
        units: yields all units in order, and a `Skipped` for what cannot be read.
    """

    kind: Kind
    units: Callable[[], Iterator[Unit | Skipped]]


def find_material(paths: list[Path], field: str) -> Material:
    """Find out what the files below these paths are.

    Raises:
        InputError: no file can be read, or some contain documents and others records.
    """
    arrays = {path: path.name for path in paths if path.suffix.lower() == _ARRAY and path.is_file()}
    others = [path for path in paths if path not in arrays]
    files = arrays | (find_files(others).files if others else {})
    kinds = {file: _kind(file, field) for file in files}
    found = sorted(set(kinds.values()))
    if len(found) > 1:
        first = {each: next(file for file in files if kinds[file] == each) for each in found}
        named = " and ".join(f"{each} ({spelled(file)})" for each, file in first.items())
        raise InputError(f"--corpus has {named}; plant in each of them separately")
    if found == ["documents"]:
        return Material("documents", partial(_documents, files, field))
    return Material(found[0], partial(_records, files))


def _kind(file: Path, field: str) -> Kind:
    if kind(file) not in LINES and file.suffix.lower() != _ARRAY:
        return "documents"
    first = next(_lines(file), None)
    if first is None:
        return "documents"
    row = _row(file, *first)
    if isinstance(row.get(field), str) and file.suffix.lower() != _ARRAY:
        return "documents"
    return _place(file, first[0], row)[0]


def _documents(files: Mapping[Path, str], field: str) -> Iterator[Unit | Skipped]:
    for file, name in files.items():
        lines = numbered_lines(ByteRange(file)) if kind(file) in LINES else iter(())
        for found in read(ByteRange(file, name=name), field):
            if isinstance(found, Skipped):
                yield found
                continue
            number = found.where.rpartition(":")[2]
            raw = next((raw for at, raw in lines if str(at) == number), None)
            keys = _row(file, int(number), raw) if raw is not None else {}
            yield _document(file, name, found, {key: value for key, value in keys.items() if key != field})


def _document(file: Path, name: str, document: Document, keys: Mapping[str, Any]) -> Unit:
    """Return a document with its further keys, such as that of the patient, which are kept."""

    def line(text: str) -> bytes:
        return (to_json({**keys, **as_row(replace(document, text=text))}) + "\n").encode()

    tag = _language(document.language or language(document.text))
    where = document.where.replace(spelled(file), name, 1)
    planted = tag if document.text.strip() else None
    return Unit(DOCUMENTS_FILE, where, planted, document.text, lambda: line(document.text), line)


def _records(files: Mapping[Path, str]) -> Iterator[Unit]:
    outputs = [output_name(name) for name in files.values()]
    if len(set(outputs)) < len(outputs):
        raise InputError(f"--corpus has two files of the name {max(outputs, key=outputs.count)}; rename one")
    for (file, name), output in zip(files.items(), outputs, strict=True):
        for number, raw in _lines(file):
            yield _record(output, file, f"{name}:{number}", number, raw)


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the number and JSON of each record: of a line, or of an element of an array."""
    if file.suffix.lower() != _ARRAY:
        with named(spelled(file)):
            yield from numbered_lines(ByteRange(file))
        return
    values = read_json(file)
    if not isinstance(values, list):
        raise InputError(f"{file}: expected a JSON array of records, found {type(values).__name__}; write .jsonl")
    for number, value in enumerate(values, 1):
        yield number, to_json(value).encode()


def output_name(name: str) -> str:
    """Return the path in the output of a file of records; an array becomes lines of JSON."""
    inside = Path(*Path(name).parts[1:]) if len(Path(name).parts) > 1 else Path(name)
    inside = inside.with_suffix("") if inside.suffix.lower() in COMPRESSED else inside
    return str(inside.with_suffix(".jsonl") if inside.suffix.lower() == _ARRAY else inside)


def _record(output: str, file: Path, where: str, number: int, raw: bytes) -> Unit:
    row = _row(file, number, raw)
    _, holder, key = _place(file, number, row)
    text = holder[key]

    def line(changed: str) -> bytes:
        holder[key] = changed
        found = (to_json(row) + "\n").encode()
        holder[key] = text
        return found

    return Unit(output, where, _language(language(text)), text, lambda: raw.rstrip(b"\r\n") + b"\n", line)


def _language(tag: str | None) -> Language | None:
    return next((name for name in LANGUAGES if name == tag), None)


def _row(file: Path, number: int, raw: bytes) -> dict[str, Any]:
    value = parse_json(decode_utf8(raw, file, number), file, number)
    if not isinstance(value, dict):
        raise InputError(f"{file}:{number}: expected a JSON object in braces, found {type(value).__name__}")
    return value


def _place(file: Path, number: int, row: dict[str, Any]) -> tuple[Kind, dict[str, Any], str]:
    """Return where the text of a record is that a canary may be inserted into: its object and key.

    Raises:
        InputError: it is no record of stage 2.
    """
    for key, (role, content) in _CONVERSATIONS.items():
        turns = row.get(key)
        for turn in reversed(turns) if isinstance(turns, list) else ():
            if isinstance(turn, dict) and turn.get(role) in _ASSISTANT and isinstance(turn.get(content), str):
                return "answers", turn, content
    question = next((key for key in _QUESTION if isinstance(row.get(key), str)), None)
    if question and any(row.get(key) is not None for key in _CHOICES):
        return "questions", row, question
    answer = next((key for key in _ANSWER if isinstance(row.get(key), str)), None)
    if answer and any(isinstance(row.get(key), str) for key in _INSTRUCTION if key != answer):
        return "answers", row, answer
    keys = ", ".join(map(str, row)) or "none"
    raise InputError(
        f"{file}:{number}: no canary can be planted in a line with the keys {keys}; it needs text (or --field), "
        "messages with an assistant's turn, instruction and output, or question and choices"
    )


def insertion_points(text: str) -> list[int]:
    """Return the ends of sentences in a text, after its thought if it has one, as offsets; at least one."""
    start = text.rfind(_END_OF_THOUGHT)
    start = 0 if start < 0 else start + len(_END_OF_THOUGHT)
    end = len(text.rstrip())
    return sorted({min(match.end(), end) for match in _SENTENCE_END.finditer(text, start)} | {end})


def inserted(text: str, point: int, sentence: str, language: Language) -> str:
    """Return a text with a sentence at an offset, in the same line."""
    space = " " if language == "en" else ""
    before, after = text[:point], text[point:]
    left = space if before and not before[-1].isspace() else ""
    right = space if after and not after[0].isspace() else ""
    return f"{before}{left}{sentence}{right}{after}"
