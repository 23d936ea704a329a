"""Instruction data: records of instruction, input and output, or conversations."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.errors import MOST_NAMED, InputError, invalid_rows, named
from jmedllm.evaluation.benchmarks.columns import (
    as_option,
    called_here,
    columns_of,
    require_fields,
    suggest,
    with_our_names,
)
from jmedllm.evaluation.benchmarks.custom import DEFAULT_READ_OPTIONS, SKIP_HINT, ReadOptions
from jmedllm.evaluation.benchmarks.file_formats import RowOrError, records
from jmedllm.evaluation.benchmarks.rows import InputRow
from jmedllm.evaluation.prompts.render import Instruction
from jmedllm.evaluation.question import Language, language_of
from jmedllm.training.thoughts import (
    THOUGHT,
    THOUGHT_FIELDS,
    read_thought,
    require_no_thought,
    thought_beside,
)

INSTRUCTION_FIELDS = ("instruction", "input", "output", "messages", THOUGHT)
"""Fields that a mapping of instruction columns may name."""

INSTRUCTION_NAMES: Mapping[str, tuple[str, ...]] = {
    "instruction": ("prompt", "question", "query", "task", "user", "problem", "inputs"),
    "input": ("context",),
    "output": (
        "response",
        "completion",
        "answer",
        "target",
        "assistant",
        "answers",
        "chosen",
        "solution",
        "targets",
    ),
    "messages": ("conversation", "dialog", "dialogue", "turns", "chat"),
}
"""Common names of these fields in other datasets, most frequent first."""

_SHAREGPT = "conversations"
_KEYS = (("role", "content"), ("from", "value"))
"""Keys of role and content, with the role names, in the OpenAI and ShareGPT formats."""

_SYSTEM, _HISTORY = "system", "history"
_READ = {*INSTRUCTION_FIELDS, *THOUGHT_FIELDS, _SHAREGPT, _SYSTEM, _HISTORY}
"""Keys of a record that are read, or refused if they are not empty."""

_UNTRAINED = ("tool_calls", "function_call")
"""Keys of a message that contain text beside the content and the thought."""

_WEIGHTS = ("weight", "train", "trainable", "loss")
"""Keys of a message that exclude it from the loss if they are 0 or false."""

_ROLES = ("system", "user", "assistant")
_SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user"} | dict.fromkeys(
    ("gpt", "assistant", "chatgpt", "model"), "assistant"
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages with a role (system, user or assistant) and content; the last one is from the assistant.

    Attributes:
        name: file and line, for error messages.
        messages: those of the assistant may also have a thought, as `reasoning_content`.
    """

    name: str
    messages: tuple[dict[str, str], ...]

    @property
    def text(self) -> str:
        """Return thoughts and content of all messages."""
        return "\n".join(text for each in self.messages for text in (each.get(THOUGHT, ""), each["content"]) if text)

    @property
    def has_thoughts(self) -> bool:
        """Whether a message has a thought."""
        return any(THOUGHT in each for each in self.messages)

    @property
    def language(self) -> Language:
        """Return Japanese if a user message contains kana or kanji, else English."""
        return language_of("\n".join(each["content"] for each in self.messages if each["role"] == "user"))


@dataclass(frozen=True, slots=True)
class Instructions:
    """A file of instructions and conversations.

    Attributes:
        skipped: number of invalid rows that were left out.
        notes: remarks for the user on how the other rows were read.
    """

    items: tuple[Instruction | Conversation, ...]
    skipped: int
    notes: tuple[str, ...] = ()


def read_instructions(
    path: Path, read_options: ReadOptions = DEFAULT_READ_OPTIONS
) -> Iterator[Instruction | Conversation]:
    """Yield the items of `read_instruction_file`."""
    yield from read_instruction_file(path, read_options).items


def read_instruction_file(path: Path, read_options: ReadOptions = DEFAULT_READ_OPTIONS) -> Instructions:
    """Read a file of any kind that `tables` reads.

    A record has `instruction`, `output` and optionally `input`; or `messages`, a list of `role` and `content`; or
    `conversations`, ShareGPT's list of `from` and `value`. With a list, `system` is its first message. A key that
    would change what is trained but is not supported is an error; other keys are noted.

    Raises:
        InputError: the file is missing, or rows are invalid and invalid rows are not skipped; the message names up to
            20.
    """
    items: list[Instruction | Conversation] = []
    problems: list[InputError] = []
    rows = _rows(path, dict(read_options.map))
    for row in rows:
        try:
            if isinstance(row, InputError):
                raise row
            items.append(_item(row))
        except InputError as error:
            problems.append(error)
    if problems and not read_options.skip_invalid:
        raise invalid_rows(problems, SKIP_HINT)
    if problems and not items:
        raise InputError(f"{path}: every row is invalid; the first one: {problems[0]}")
    return Instructions(tuple(items), len(problems), _notes(path, rows, read_options))


def _notes(path: Path, rows: Sequence[RowOrError], read_options: ReadOptions) -> tuple[str, ...]:
    """Return a note on non-empty keys that are not read, with their number of rows."""
    read = _READ | {
        source.partition(".")[0] for column in dict(read_options.map).values() for source in column.split("+")
    }
    unread = Counter(
        key
        for row in rows
        if isinstance(row, InputRow)
        for key, value in row.record.items()
        if key not in read and value not in (None, "", [])
    )
    named = ", ".join(f"{key} (rows: {count:,})" for key, count in list(unread.items())[:MOST_NAMED])
    return (f"{path.name}: not read: {named}.",) if unread else ()


def _rows(path: Path, mapping: Mapping[str, str]) -> list[RowOrError]:
    """Read the rows, with columns renamed as in `mapping`.

    Raises:
        InputError: no row has the fields; the message suggests a mapping.
    """
    require_fields(mapping, INSTRUCTION_FIELDS)
    rows = list(records(path))
    names = columns_of(rows)
    if names and not {"instruction", "messages", _SHAREGPT} & {*names, *mapping}:
        wanted = ("messages",) if suggest(names, ("messages",), INSTRUCTION_NAMES) else INSTRUCTION_FIELDS[:3]
        if found := suggest(names, wanted, INSTRUCTION_NAMES):
            option = as_option(found).replace("=", ": ")
            raise InputError(f"{path}: {called_here(found)}; rename it, or give map: {{{option}}} in mpeft")
    return with_our_names(rows, mapping)


def _item(row: InputRow) -> Instruction | Conversation:
    present = [key for key in ("messages", _SHAREGPT) if row.record.get(key) is not None]
    if present and row.record.get("instruction"):
        present.insert(0, "instruction")
    if len(present) > 1:
        raise InputError(f"{row.place}: has both {present[0]} and {present[1]}; remove one")
    if present or "messages" in row.record:
        return _conversation(row, present[0] if present else "messages")
    return _instruction(row.place, row.record)


def _instruction(place: str, row: Mapping[str, Any]) -> Instruction:
    for key, what in ((_SYSTEM, "a system message"), (_HISTORY, "earlier turns")):
        if row.get(key):
            raise InputError(f"{place}: field '{key}': an instruction cannot have {what}; give the turns as messages")
    for key in ("instruction", "output"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise InputError(f"{place}: field '{key}' must be a text that is not empty")
    text = row.get("input") or ""
    if not isinstance(text, str):
        raise InputError(f"{place}: field 'input' must be a text or left out")
    with named(place):
        return Instruction(place, row["instruction"], text, row["output"], thought_beside(row))


def _conversation(row: InputRow, field: str) -> Conversation:
    place, messages = row.place, row.record[field]
    role_key, content_key = keys = _keys(messages)
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        who, what = _KEYS[field == _SHAREGPT]
        raise InputError(f"{place}: field '{field}' must be a list of objects with {who} and {what}")
    roles: Mapping[str, str] = _SHAREGPT_ROLES if keys == _KEYS[1] else {role: role for role in _ROLES}
    turns: list[dict[str, str]] = []
    for number, message in enumerate(messages, 1):
        role, content = message.get(role_key), message.get(content_key)
        if not isinstance(role, str) or role not in roles:
            raise InputError(f"{place}: message {number}: {role_key} must be one of {', '.join(roles)}")
        if not isinstance(content, str) or not content.strip():
            raise InputError(f"{place}: message {number}: {content_key} must be a text that is not empty")
        with named(f"{place}: message {number}"):
            turns.append(_message(roles[role], message, content))
    turns = [*_system(row, turns), *turns]
    if turns[-1]["role"] != "assistant":
        raise InputError(f"{place}: the last message must be from the assistant, because it is trained")
    return Conversation(place, tuple(turns))


def _message(role: str, message: Mapping[str, Any], content: str) -> dict[str, str]:
    """Return a message in our keys, with its thought apart from its content.

    Raises:
        InputError: the thought is invalid, see `read_thought`, or not the assistant's; or the message has another key
            that changes what is trained.
    """
    if role != "assistant":
        require_no_thought(message, role, content)
        return {"role": role, "content": content}
    for key in _UNTRAINED:
        if message.get(key):
            raise InputError(f"{key} is not supported in training; move it into the content, or remove it")
    for key in _WEIGHTS:
        if message.get(key) in (0, False):
            raise InputError(
                f"{key} is {message[key]}, but every assistant message is trained; end the conversation before this "
                f"message, or remove {key}"
            )
    thought, answer = read_thought(thought_beside(message), content)
    return {"role": role, "content": answer} | ({THOUGHT: thought} if thought else {})


def _keys(messages: Any) -> tuple[str, str]:
    """Return the keys of role and content in these messages."""
    first = messages[0] if isinstance(messages, list) and messages else None
    return _KEYS[1] if isinstance(first, dict) and "from" in first and "role" not in first else _KEYS[0]


def _system(row: InputRow, turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """Prepend the system message of a record to its turns, if there is one."""
    system = row.record.get(_SYSTEM)
    if system is None or system == "":
        return []
    if not isinstance(system, str) or turns[0]["role"] == "system":
        raise InputError(f"{row.place}: field 'system' must be a text, and the only system message; remove one")
    return [{"role": "system", "content": system}]
