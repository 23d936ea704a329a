"""Instruction data: what to do, on what, and the wanted output; or a whole conversation."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.exam.prompts.render import Instruction
from jmedllm.exam.question import Language, language_of
from jmedllm.files import read_json, read_jsonl

_ROLES = ("system", "user", "assistant")


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


def read_instructions(path: Path) -> Iterator[Instruction | Conversation]:
    """Yield the entries of a .json file (one list) or a .jsonl file. Each has `instruction`, `output` and, if
    there is something to work on, `input`; or `messages`, a list of `role` and `content`.

    Raises:
        InputError: the file is missing, or an entry lacks text; names file and line or entry.
    """
    for place, row in _entries(path):
        yield _conversation(place, row) if "messages" in row else _instruction(place, row)


def _instruction(place: str, row: dict[str, Any]) -> Instruction:
    for key in ("instruction", "output"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise InputError(f"{place}: field '{key}' must be a text that is not empty")
    text = row.get("input") or ""
    if not isinstance(text, str):
        raise InputError(f"{place}: field 'input' must be a text or left out")
    return Instruction(place, row["instruction"], text, row["output"])


def _conversation(place: str, row: dict[str, Any]) -> Conversation:
    messages = row["messages"]
    if not isinstance(messages, list) or not messages or not all(isinstance(each, dict) for each in messages):
        raise InputError(f"{place}: field 'messages' must be a list of objects with role and content")
    for number, message in enumerate(messages, 1):
        if message.get("role") not in _ROLES:
            raise InputError(f"{place}: message {number}: role must be one of {', '.join(_ROLES)}")
        content = message.get("content")
        if not isinstance(content, str) or not content.strip():
            raise InputError(f"{place}: message {number}: content must be a text that is not empty")
    if messages[-1]["role"] != "assistant":
        raise InputError(f"{place}: the last message must be the assistant's; it is what is learnt")
    return Conversation(place, tuple({"role": m["role"], "content": m["content"]} for m in messages))


def _entries(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix == ".jsonl":
        for number, row in read_jsonl(path):
            yield f"{path}:{number}", row
        return
    rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: expected a JSON list of objects with instruction, input, output, or messages")
    for number, row in enumerate(rows, 1):
        yield f"{path}: entry {number}", row
