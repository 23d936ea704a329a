"""Reads and checks the JSON bodies of requests. Every message names the field and what it takes."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

ROLES = re.compile(r"[a-z_]{1,40}")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""The character U+0000 as JSON writes it, and not the text of that escape."""
MOST_MESSAGES = 10_000
MOST_CHOICES = 100
MOST_STOPS = 16
MOST_LOGPROBS = 20


class BadRequest(Exception):  # noqa: N818 - named as HTTP names it
    """A request that is refused.

    Attributes:
        field: the field that is wrong; None if it is not about one.
        code: OpenAI's code of the error, if it has one.
        status: status of the response.
    """

    def __init__(self, message: str, field: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.field, self.code, self.status = field, code, status


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A checked request for an answer.

    Attributes:
        model: name of the model; None for whichever is served.
        messages: the conversation; None for a plain prompt.
        prompt: text or token ids to continue; None for a conversation.
        variables: variables of the chat template.
        max_tokens: largest number of new tokens; None for as many as fit.
        sampling: other settings of `Sampling`, by name.
        stop: texts at which the answer ends.
        choices: texts of which the answer is one; empty for any text.
        stream: whether the answer is sent while it is written.
        include_usage: whether a stream ends with the number of tokens.
        logprobs: number of alternatives to report for each token; None for no log-probabilities.
    """

    model: str | None = None
    messages: tuple[dict[str, Any], ...] | None = None
    prompt: str | tuple[int, ...] | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    max_tokens: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class _Field:
    """What a field takes.

    Attributes:
        text: what it takes, in words.
        takes: returns whether a value is valid.
    """

    text: str
    takes: Callable[[Any], bool]


def _number(low: float, high: float, *, above: bool = False) -> _Field:
    text = f"a number {'above' if above else 'from'} {low:g} {'up ' if above else ''}to {high:g}"

    def takes(value: Any) -> bool:
        return _is_number(value) and (low < value if above else low <= value) and value <= high

    return _Field(text, takes)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _integer(low: int, high: int) -> _Field:
    return _Field(
        f"a whole number from {low:,} to {high:,}", lambda value: _is_integer(value) and low <= value <= high
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _only(*values: Any) -> _Field:
    text = " or ".join(json.dumps(value) for value in values)
    return _Field(f"{text} only", lambda value: any(type(value) is type(each) and value == each for each in values))


def _texts(most: int, kind: str) -> _Field:
    def takes(value: Any) -> bool:
        return isinstance(value, list) and 0 < len(value) <= most and all(map(_is_text, value))

    return _Field(f"a list of 1 to {most} {kind}, none of them empty", takes)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


_MANY = 2**31 - 1
_STOPS = _texts(MOST_STOPS, "texts")
_OBJECT = _Field("an object", lambda value: isinstance(value, dict))
_BOOLEAN = _Field("true or false", lambda value: isinstance(value, bool))
_MAX_TOKENS = _integer(1, _MANY)

_WARM = _number(1e-6, 10)  # logits divided by less leave float32
_TEMPERATURE = _Field(f"0 or {_WARM.text}", lambda value: _WARM.takes(value) or (_is_number(value) and value == 0))

_COMMON: dict[str, _Field] = {
    "model": _Field("a text", lambda value: isinstance(value, str)),
    "max_tokens": _MAX_TOKENS,
    "temperature": _TEMPERATURE,
    "top_p": _number(0, 1, above=True),
    "top_k": _integer(-1, _MANY),
    "min_p": _number(0, 1),
    "repetition_penalty": _number(0.01, 10),
    "seed": _integer(-(2**63), 2**63 - 1),
    "stop": _Field(
        f"a text or {_STOPS.text}", lambda value: (isinstance(value, str) and value != "") or _STOPS.takes(value)
    ),
    "stream": _BOOLEAN,
    "stream_options": _Field(
        'an object with the key "include_usage"',
        lambda value: (
            isinstance(value, dict)
            and all(key == "include_usage" for key in value)
            and all(isinstance(each, bool) for each in value.values())
        ),
    ),
    "n": _only(1),
    "structured_outputs": _Field(
        'an object with the key "choice": a list of texts', lambda value: isinstance(value, dict)
    ),
    "user": _Field("a text", lambda value: isinstance(value, str)),
    "frequency_penalty": _only(0, 0.0),
    "presence_penalty": _only(0, 0.0),
    "logit_bias": _only({}),
}
"""Fields of both routes. Those that take one value are settings of OpenAI's API that change nothing at that value."""

CHAT_FIELDS: Mapping[str, _Field] = _COMMON | {
    "messages": _Field("a list of messages", lambda value: isinstance(value, list)),
    "max_completion_tokens": _MAX_TOKENS,
    "logprobs": _BOOLEAN,
    "top_logprobs": _integer(0, MOST_LOGPROBS),
    "chat_template_kwargs": _OBJECT,
    "response_format": _only({"type": "text"}),
    "tools": _only([]),
}
COMPLETION_FIELDS: Mapping[str, _Field] = _COMMON | {
    "prompt": _Field(
        "a text or a list of token ids",
        lambda value: (
            isinstance(value, str)
            or (isinstance(value, list) and all(_is_integer(each) and 0 <= each < _MANY for each in value))
        ),
    ),
    "logprobs": _integer(0, MOST_LOGPROBS),
    "echo": _only(False),
    "best_of": _only(1),
    "suffix": _only(""),
}
TOKENIZE_FIELDS: Mapping[str, _Field] = {
    "model": _COMMON["model"],
    "prompt": _Field("a text", lambda value: isinstance(value, str)),
    "messages": CHAT_FIELDS["messages"],
    "chat_template_kwargs": _OBJECT,
    "add_special_tokens": _BOOLEAN,
}

_NEUTRAL = {"stop": (), "top_p": 1, "top_k": 0, "min_p": 0, "repetition_penalty": 1}
"""Settings that change no choice, and the values at which they change nothing at all."""

_SAMPLING: Mapping[str, Callable[[float], float]] = {
    "temperature": float,
    "top_p": float,
    "top_k": int,
    "min_p": float,
    "repetition_penalty": float,
    "seed": int,
}
"""Settings of `Sampling` and their types; JSON may have 1 for 1.0, which transformers refuses."""


def parse_body(raw: bytes, fields: Mapping[str, _Field]) -> dict[str, Any]:
    """Parse a JSON body and check its fields. A field that is null counts as left out.

    Raises:
        BadRequest: it is not a JSON object of UTF-8 text, or has an unknown or invalid field.
    """
    try:
        body = json.loads(raw.decode(), parse_constant=_refuse_constant)
        text = json.dumps(body, ensure_ascii=False)
        text.encode()
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except UnicodeEncodeError:
        raise BadRequest("the body has an escape that is half a character; send whole characters") from None
    except ValueError as error:
        raise BadRequest(f"the body is not JSON in UTF-8: {str(error)[:200]}") from None
    if not isinstance(body, dict):
        raise BadRequest(f"the body must be a JSON object; found {type(body).__name__}")
    if _NUL.search(text):
        raise BadRequest("the body has the character U+0000; remove it")
    given = {name: value for name, value in body.items() if value is not None}
    for name, value in given.items():
        if name not in fields:
            raise BadRequest(f"unknown field {name[:100]!r}; this route takes {', '.join(sorted(fields))}", name[:100])
        if not fields[name].takes(value):
            raise BadRequest(f"{name}: takes {fields[name].text}; found {_shown(value)}", name)
    return given


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."


def chat_request(raw: bytes) -> GenerationRequest:
    """Read the body of a chat request.

    Raises:
        BadRequest: see `parse_body`; or it is contradictory or has something that is not supported.
    """
    body = parse_body(raw, CHAT_FIELDS)
    other = body.get("max_completion_tokens")
    if other is not None and body.setdefault("max_tokens", other) != other:
        raise BadRequest("give either max_tokens or max_completion_tokens", "max_completion_tokens")
    if "top_logprobs" in body and not body.get("logprobs"):
        raise BadRequest("top_logprobs: needs logprobs: true", "top_logprobs")
    logprobs = body.get("top_logprobs", 0) if body.get("logprobs") else None
    return _request(body, logprobs, messages=messages_of(body), variables=body.get("chat_template_kwargs", {}))


def completion_request(raw: bytes) -> GenerationRequest:
    """Read the body of a request that continues a prompt.

    Raises:
        BadRequest: see `chat_request`.
    """
    body = parse_body(raw, COMPLETION_FIELDS)
    prompt = body.get("prompt")
    if not prompt:
        raise BadRequest("prompt: is missing or empty; give a text or token ids", "prompt")
    return _request(body, body.get("logprobs"), prompt=prompt if isinstance(prompt, str) else tuple(prompt))


def _request(body: dict[str, Any], logprobs: int | None, **conversation: Any) -> GenerationRequest:
    if body.get("top_k") == -1:  # vLLM's value for all tokens
        body["top_k"] = 0
    choices = _choices(body.get("structured_outputs"))
    stop = body.get("stop", ())
    idle = [name for name, value in _NEUTRAL.items() if body.get(name, value) != value]
    if choices and idle:
        raise BadRequest(
            f"{idle[0]}: has no effect on an answer that is one of several choices; leave it out", idle[0]
        )
    sampling: dict[str, Any] = {name: kind(body[name]) for name, kind in _SAMPLING.items() if name in body}
    if "seed" in sampling:
        sampling["seed"] %= 2**32 - 1
    return GenerationRequest(
        model=body.get("model"),
        max_tokens=body.get("max_tokens"),
        sampling=sampling,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        choices=choices,
        stream=body.get("stream", False),
        include_usage=body.get("stream_options", {}).get("include_usage", False),
        logprobs=logprobs,
        **conversation,
    )


def _choices(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    allowed = _texts(MOST_CHOICES, "texts")
    if unknown := sorted(given.keys() - {"choice"}):
        raise BadRequest(f"structured_outputs: takes only the key choice; found {unknown[0]!r}", "structured_outputs")
    if not allowed.takes(given.get("choice")):
        raise BadRequest(f"structured_outputs.choice: takes {allowed.text}", "structured_outputs")
    choices: list[str] = given["choice"]
    if len(set(choices)) != len(choices):
        raise BadRequest("structured_outputs.choice: has the same choice twice", "structured_outputs")
    return tuple(choices)


def messages_of(body: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Return the messages of a body, each with its content as one text.

    Raises:
        BadRequest: there are none, or one is not a message of text.
    """
    messages = body.get("messages")
    if not messages:
        raise BadRequest("messages: is missing or empty; give at least one message", "messages")
    if len(messages) > MOST_MESSAGES:
        raise BadRequest(f"messages: {len(messages):,} messages; at most {MOST_MESSAGES:,}", "messages")
    return tuple(_message(message, f"messages[{place}]") for place, message in enumerate(messages))


_MESSAGE_KEYS = ("role", "content", "name", "reasoning_content", "reasoning", "thinking")
_NEUTRAL_KEYS = ("tool_calls", "function_call", "refusal", "audio", "annotations")
"""Keys of OpenAI's answers, which clients send back; they are dropped if they are empty."""


def _message(message: Any, place: str) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise BadRequest(f"{place}: takes an object with role and content; found {_shown(message)}", "messages")
    kept = {key: value for key, value in message.items() if key not in _NEUTRAL_KEYS or value}
    if unknown := sorted(kept.keys() - set(_MESSAGE_KEYS)):
        raise BadRequest(f"{place}.{unknown[0][:100]}: is not supported; leave it out", "messages")
    if not isinstance(kept.get("role"), str) or not ROLES.fullmatch(kept["role"]):
        raise BadRequest(f"{place}.role: takes a role such as system, user or assistant", "messages")
    for key, value in kept.items():
        if key not in ("role", "content") and value is not None and not isinstance(value, str):
            raise BadRequest(f"{place}.{key}: takes a text; found {_shown(value)}", "messages")
    return {**kept, "content": _content(kept.get("content"), f"{place}.content")}


def _content(content: Any, place: str) -> str:
    """Return a content as one text: a text, or the joined parts of the type `text`."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise BadRequest(f"{place}: takes a text; found {_shown(content)}", "messages")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            said = f"a part of the type {kind!r}" if isinstance(kind, str) else _shown(part)
            raise BadRequest(f"{place}: this model reads text only; found {said[:100]}", "messages")
        if not isinstance(part.get("text"), str):
            raise BadRequest(f"{place}: a part of the type text needs a text", "messages")
    return "".join(part["text"] for part in content)
