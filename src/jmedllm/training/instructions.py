"""Instruction data: what to do, on what, and the wanted output; or a whole conversation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError, rows_wrong
from jmedllm.exam.benchmarks.columns import as_option, require_fields, resolve, suggest
from jmedllm.exam.benchmarks.own import PLAIN, SKIP, Reading
from jmedllm.exam.benchmarks.reading import Line
from jmedllm.exam.benchmarks.tables import Row, records
from jmedllm.exam.prompts.render import Instruction
from jmedllm.exam.question import Language, language_of

INSTRUCTION_FIELDS = ("instruction", "input", "output", "messages")
"""What a mapping of instructions may name."""

INSTRUCTION_NAMES: Mapping[str, tuple[str, ...]] = {
    "instruction": ("prompt", "question", "query", "task", "user", "problem"),
    "input": ("context",),
    "output": ("response", "completion", "answer", "target", "assistant", "answers", "chosen", "solution"),
    "messages": ("conversation", "dialog", "dialogue", "turns", "chat"),
}
"""What others call our fields, commonest first."""

_SHAREGPT = "conversations"
_KEYS = (("role", "content"), ("from", "value"))
"""How a message says who speaks and what: OpenAI's way and ShareGPT's."""

_ROLES = ("system", "user", "assistant")
_SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user"} | dict.fromkeys(
    ("gpt", "assistant", "chatgpt", "model"), "assistant"
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages of role (system, user or assistant) and content; the last one is the assistant's.

    Attributes:
        name: where it comes from, for messages.
    """

    name: str
    messages: tuple[dict[str, str], ...]

    @property
    def text(self) -> str:
        """All that is said."""
        return "\n".join(each["content"] for each in self.messages)

    @property
    def language(self) -> Language:
        """Japanese if kana or kanji occur in what the users say, else English."""
        return language_of("\n".join(each["content"] for each in self.messages if each["role"] == "user"))


@dataclass(frozen=True, slots=True)
class Instructions:
    """A file of instructions and conversations.

    Attributes:
        skipped: how many rows were left out as wrong.
    """

    items: tuple[Instruction | Conversation, ...]
    skipped: int


def read_instructions(path: Path, reading: Reading = PLAIN) -> Iterator[Instruction | Conversation]:
    """Yield the items of `read_instruction_file`."""
    yield from read_instruction_file(path, reading).items


def read_instruction_file(path: Path, reading: Reading = PLAIN) -> Instructions:
    """Read a file of any kind that `tables` reads.

    A record has `instruction`, `output` and, if there is something to work on, `input`; or `messages`, a list of
    `role` and `content`; or `conversations`, ShareGPT's list of `from` and `value`.

    Raises:
        InputError: the file is missing, or rows are wrong and are not to be skipped: all are named, up to 20.
    """
    items: list[Instruction | Conversation] = []
    problems: list[InputError] = []
    for row in _rows(path, dict(reading.map)):
        try:
            if isinstance(row, InputError):
                raise row
            items.append(_item(row))
        except InputError as error:
            problems.append(error)
    if problems and not reading.skip_invalid:
        raise rows_wrong(problems, SKIP)
    if problems and not items:
        raise InputError(f"{path}: every row is wrong; the first one: {problems[0]}")
    return Instructions(tuple(items), len(problems))


def _rows(path: Path, mapping: Mapping[str, str]) -> list[Row]:
    """The rows by our names.

    Raises:
        InputError: no row has them; the mapping that would help is named.
    """
    require_fields(mapping, INSTRUCTION_FIELDS)
    rows = list(records(path))
    names = list(dict.fromkeys(key for row in rows if isinstance(row, Line) for key in row.record))
    if not names:
        return rows
    if not {"instruction", "messages", _SHAREGPT} & {*names, *mapping}:
        wanted = ("messages",) if suggest(names, ("messages",), INSTRUCTION_NAMES) else INSTRUCTION_FIELDS[:3]
        if found := suggest(names, wanted, INSTRUCTION_NAMES):
            called = ", ".join(f'"{column}" is called "{field}" here' for field, column in found.items())
            raise InputError(
                f"{path}: {called}; rename it, or give map: {{{as_option(found).replace('=', ': ')}}} in mpeft"
            )
    sources = {field: resolve(field, column, names) for field, column in mapping.items()}
    for place, row in enumerate(rows):
        if isinstance(row, Line):
            ours = {field: source.value(row.record) for field, source in sources.items()}
            rows[place] = replace(row, record={**row.record, **ours})
    return rows


def _item(row: Line) -> Instruction | Conversation:
    told = [key for key in ("messages", _SHAREGPT) if row.record.get(key) is not None]
    if len(told) > 1:
        raise InputError(f"{row.place}: has both messages and {_SHAREGPT}; remove one")
    if told or "messages" in row.record:
        return _conversation(row, told[0] if told else "messages")
    return _instruction(row.place, row.record)


def _instruction(place: str, row: Mapping[str, Any]) -> Instruction:
    for key in ("instruction", "output"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise InputError(f"{place}: field '{key}' must be a text that is not empty")
    text = row.get("input") or ""
    if not isinstance(text, str):
        raise InputError(f"{place}: field 'input' must be a text or left out")
    return Instruction(place, row["instruction"], text, row["output"])


def _conversation(row: Line, field: str) -> Conversation:
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
        turns.append({"role": roles[role], "content": content})
    if field == _SHAREGPT:
        turns = [*_system(row, turns), *turns]
    if turns[-1]["role"] != "assistant":
        raise InputError(f"{place}: the last message must be the assistant's; it is what is learnt")
    return Conversation(place, tuple(turns))


def _keys(messages: Any) -> tuple[str, str]:
    """How these messages say who speaks and what."""
    first = messages[0] if isinstance(messages, list) and messages else None
    return _KEYS[1] if isinstance(first, dict) and "from" in first and "role" not in first else _KEYS[0]


def _system(row: Line, turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """The system message that ShareGPT's records may have beside the conversation."""
    system = row.record.get("system")
    if system is None or system == "":
        return []
    if not isinstance(system, str) or turns[0]["role"] == "system":
        raise InputError(f"{row.place}: field 'system' must be a text, and the only system message; remove one")
    return [{"role": "system", "content": system}]
