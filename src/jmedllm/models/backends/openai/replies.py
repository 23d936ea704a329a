"""Parse the replies of OpenAI-compatible servers: vLLM, llama.cpp, SGLang, TGI, OpenAI and others."""

import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

_MOST_TOKENS = 10**9
"""Largest number of tokens that is believed."""

_TOO_LONG_CODES = {"context_length_exceeded", "exceed_context_size_error", "string_above_max_length"}
_TOO_LONG = re.compile(
    r"context[ _](?:length|size|window|limit)|max_(?:model|seq|input)_len"
    r"|maximum (?:model|input|prompt|sequence) length"
    r"|input length limit"
    r"|(?:prompt|input|message|request)s?`? (?:is|are) too (?:long|large)|too many (?:input )?tokens"
    r"|reduce the length|string too long|context the overflows"
    r"|tokens?`? \+ `?max_new_tokens|must have less than \d+ tokens|token count\b.{0,40}\bexceed|tokens exceed",
    re.IGNORECASE,
)


def new_tokens_of(reply: Any) -> int | None:
    """Return the number of generated tokens as counted by the server; None if it does not report it."""
    return _count(getattr(getattr(reply, "usage", None), "completion_tokens", None))


def reasoning_tokens_of(reply: Any) -> int | None:
    """Return the number of tokens in the thought as counted by the server; None if it does not report it."""
    usage = getattr(reply, "usage", None)
    places = (getattr(usage, "completion_tokens_details", None), usage)  # SGLang has it in usage itself
    counts = (_count(getattr(place, "reasoning_tokens", None)) for place in places)
    return next((count for count in counts if count is not None), None)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= _MOST_TOKENS else None


def choice_of(reply: Any, *, chat: bool) -> Any:
    """Return the first choice of a reply, which has a message in a chat, else a text.

    Raises:
        ValueError: it has none; the error has what the server returned instead.
    """
    choices = getattr(reply, "choices", None)
    if not choices or getattr(choices[0], "message" if chat else "text", None) is None:
        found = reply.to_json(indent=None, warnings=False) if hasattr(reply, "to_json") else str(reply)
        raise ValueError(f"it has no {'message' if chat else 'text'}: {found[:200]!r}")
    return choices[0]


def finish_reason_of(choice: Any, new_tokens: int | None, limit: int) -> str | None:
    """Return why a reply ended. If the server does not say it, a reply as long as the limit was cut off.

    Raises:
        ValueError: it is no text.
    """
    if not isinstance(choice.finish_reason, str | None):
        raise ValueError(f"finish_reason is not a text: {str(choice.finish_reason)[:60]!r}")
    at_limit = choice.finish_reason is None and new_tokens is not None and new_tokens >= limit
    return "length" if at_limit else choice.finish_reason


def said_by(error: Any) -> str:
    """Return the server's message, or its whole response if the format is not OpenAI's, as with TGI."""
    bare = str(error.message) == f"Error code: {error.status_code}"
    return f"{error.message} - {error.response.text}" if bare else str(error.message)


def reason_of(error: Any) -> str:
    """Return the beginning of the server's message."""
    return said_by(error).removeprefix(f"Error code: {error.status_code} - ")[:400].replace("\n", " ").strip()[:200]


def is_too_long(status: int, message: str, code: object = None) -> bool:
    """Return whether a server refused a request because it does not fit the model's context."""
    if status == 413:
        return True
    return status in (400, 422) and (code in _TOO_LONG_CODES or _TOO_LONG.search(message) is not None)


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a message, or its refusal; for a message in parts, as in Mistral's API, the text parts."""
    return _joined(message.get("content"), ("text", "output_text")) or str(message.get("refusal") or "")


def reasoning_of(message: Mapping[str, Any]) -> str | None:
    """Return the thought that a server returns separately from a message's text; None if it returns none."""
    content = message.get("content")
    beside = (_joined(message.get(name), _THOUGHTS) for name in _THOUGHT_FIELDS)
    return (
        next(filter(None, beside), "")
        or (_joined(content, _THOUGHTS[:2]) if isinstance(content, list) else "")
        or None
    )


_THOUGHT_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")  # the last one is OpenRouter's
_THOUGHTS = ("thinking", "reasoning", "text", "reasoning.text")
"""Fields with a thought, and types of its parts; in the content itself, only the first two are thoughts."""


def _joined(content: object, kinds: Collection[str]) -> str:
    """Join a text, or the parts of these kinds. The text of a part is under its kind or under "text", possibly
    nested.

    Raises:
        ValueError: it is an object.
    """
    if isinstance(content, Mapping):
        raise ValueError(f"a message has an object instead of a text: {str(content)[:200]!r}")
    if not isinstance(content, list):
        return "" if content is None else str(content)
    parts = [part for part in content if ("text" in kinds if isinstance(part, str) else part.get("type") in kinds)]
    return "".join(
        part if isinstance(part, str) else _joined(part.get(part["type"], part.get("text")), ("text",))
        for part in parts
    )


def top_tokens(choice: Mapping[str, Any], reply: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the most likely first tokens with their natural log-probabilities; empty if the server returns none.

    Args:
        choice: the first of `choices`.
        reply: the whole reply.

    Raises:
        ValueError: a log-probability is not a number below infinity.
    """
    logprobs = choice.get("logprobs") or {}
    # The form of chat, which llama.cpp also uses for text, or llama.cpp's own form.
    content = logprobs.get("content") or reply.get("completion_probabilities")
    if content:
        first = content[0]
        listed = first.get("top_logprobs") or first.get("top_probs") or first.get("probs") or []
        return _possible(map(_token, listed))
    listed = logprobs.get("top_logprobs")
    return _possible((_spelled(token), value) for token, value in listed[0].items()) if listed and listed[0] else []


def _possible(listed: Iterable[tuple[str, Any]]) -> list[tuple[str, float]]:
    """Leave out the tokens that the server excludes, which have the probability 0."""
    found = []
    for token, value in listed:
        try:
            number = float(value)
        except (TypeError, OverflowError) as error:
            raise ValueError(f"the log-probability of {token[:20]!r} is not a number") from error
        if not number < math.inf:
            raise ValueError(f"the log-probability of {token[:20]!r} is {number}")
        found += [(token, number)] * (number > -math.inf)
    return found


def _spelled(token: str) -> str:
    """Convert a token to text; some servers return the vocabulary's mark for the space before a word."""
    return f" {token[1:]}" if token[:1] in ("▁", "Ġ") else token


def _token(listed: Mapping[str, Any]) -> tuple[str, float]:
    token = _spelled(listed["token"] if "token" in listed else listed["tok_str"])
    if "logprob" in listed:
        return token, float(listed["logprob"])
    return token, math.log(listed["prob"]) if listed["prob"] > 0 else -math.inf
