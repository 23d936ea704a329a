"""Compare a Go template with the chat template that it stands for, on conversations."""

from collections.abc import Iterator, Sequence
from itertools import product

from jmedllm.deploy.ollama.choice import shared_start
from jmedllm.deploy.ollama.modes import Mode, ollama_prompt
from jmedllm.errors import InputError
from jmedllm.models.chat import Message, with_thought
from jmedllm.models.chat_format import ChatFormat

INSTEAD = "use jmedllm deploy serve instead of Ollama"

_SAID = (
    "ビタミンCが  欠乏すると?\n\n1. 壊血病\n2. 脚気",
    "答えは 1 です。\n\n* 理由: コラーゲン",
    "What is {{ .System }}?  {% if x %} \"quoted\" 'text'",
    "It's <b>bold</b>,\n\tand more.",
    "なぜ?",
    "1\u30002",
    "Why\n?",
)
_SYSTEMS = ("", "あなたは医師です。\n\n  Answer {{ briefly }}.")
_EDGE = " \n%s\n "


def conversations() -> Iterator[list[Message]]:
    """Return conversations with up to three answers, with and without a system message."""
    for system, answers in product(_SYSTEMS, range(4)):
        yield _conversation(system, _SAID[: 2 * answers + 1])


def _conversation(system: str, said: Sequence[str]) -> list[Message]:
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    return messages + [
        {"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(said)
    ]


def require_same(text: str, ways: Sequence[Mode], found: ChatFormat, bos: str) -> int:
    """Compare both templates on conversations, and return their number.

    Raises:
        InputError: they differ.
    """
    count, key = 0, found.thought.key if found.thought else None
    for mode, messages, thought in product(ways, conversations(), ("", "考える。") if key else ("",)):
        given = [
            with_thought(each, thought, str(key)) if thought and each["role"] == "assistant" else each
            for each in messages
        ]
        said = [each | {"thinking": thought} if each["role"] == "assistant" else each for each in messages]
        if (difference := _difference(text, mode, given, said, bos)) is not None:
            raise InputError(f"ollama: {difference}; {INSTEAD}")
        count += 1
    return count


def changes_white_space(text: str, ways: Sequence[Mode], role: str, bos: str) -> bool:
    """Return whether the Jinja template changes white space at the ends of the messages of one role.

    Raises:
        InputError: it changes more than that.
    """
    changes = False
    for mode, system in product(ways, ("", "s")):
        plain = _conversation(system, ("q", "a", "q"))
        edges = [each | {"content": _EDGE % each["content"]} if each["role"] == role else each for each in plain]
        try:
            wanted = mode.template.prompt(edges)
        except InputError:  # it takes no conversation of this kind
            continue
        found = bos + ollama_prompt(text, mode, edges)
        if "".join(wanted.split()) != "".join(found.split()):
            raise InputError(f"ollama: {_first_difference(wanted, found, len(edges))}; {INSTEAD}")
        changes = changes or wanted != found
    return changes


def _difference(text: str, mode: Mode, given: Sequence[Message], said: Sequence[Message], bos: str) -> str | None:
    """Return the first difference between both templates for one conversation; None if there is none.

    Args:
        text: the Go template.
        mode: the way of thinking.
        given: messages for the Jinja template.
        said: messages for the Go template.
        bos: text that llama.cpp puts in front.
    """
    try:
        wanted = mode.template.prompt(given)
    except InputError as error:
        return None if _refuses(text, mode, said) else str(error)
    try:
        found = bos + ollama_prompt(text, mode, said)
    except InputError as error:
        return str(error)
    return None if wanted == found else _first_difference(wanted, found, len(given))


def _first_difference(wanted: str, found: str, messages: int) -> str:
    at = len(shared_start([wanted, found]))
    excerpts = [repr(each[max(0, at - 20) : at + 20]) for each in (wanted, found)]
    return (
        f"no Go template renders this chat template: a prompt of {messages} messages differs at character {at}, "
        f"{excerpts[0]} in the chat template, {excerpts[1]} in Go"
    )


def _refuses(text: str, mode: Mode, messages: Sequence[Message]) -> bool:
    try:
        ollama_prompt(text, mode, messages)
    except InputError:
        return True
    return False
