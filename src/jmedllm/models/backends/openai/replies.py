"""Parse the replies of OpenAI-compatible servers: vLLM, llama.cpp, SGLang, TGI, OpenAI and others."""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

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
    count = getattr(getattr(reply, "usage", None), "completion_tokens", None)
    return count if isinstance(count, int) else None


def reasoning_tokens_of(reply: Any) -> int | None:
    """Return the number of tokens in the thought as counted by the server; None if it does not report it."""
    details = getattr(getattr(reply, "usage", None), "completion_tokens_details", None)
    count = getattr(details, "reasoning_tokens", None)
    return count if isinstance(count, int) else None


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
    """Return the text of a message; for a message in parts, as in Mistral's API, the text parts."""
    return _joined(message.get("content"), ("text", "output_text"))


def reasoning_of(message: Mapping[str, Any]) -> str | None:
    """Return the thought that a server returns separately from a message's text; None if it returns none."""
    names = ("reasoning_content", "reasoning", "thinking")
    found = next((message[name] for name in names if isinstance(message.get(name), str) and message[name]), None)
    content = message.get("content")
    return found or (_joined(content, ("thinking", "reasoning")) if isinstance(content, list) else "") or None


def _joined(content: object, kinds: Collection[str]) -> str:
    """Join a text, or the parts of these kinds. The text of a part is under its kind or under "text", possibly
    nested."""
    if not isinstance(content, list):
        return str(content or "")
    parts = [part for part in content if isinstance(part, Mapping) and part.get("type") in kinds]
    return "".join(_joined(part.get(part["type"], part.get("text")), ("text",)) for part in parts)


def top_tokens(choice: Mapping[str, Any], reply: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the most likely first tokens with their natural log-probabilities; empty if the server returns none.

    Args:
        choice: the first of `choices`.
        reply: the whole reply.
    """
    logprobs = choice.get("logprobs") or {}
    # The form of chat, which llama.cpp also uses for text, or llama.cpp's own form.
    content = logprobs.get("content") or reply.get("completion_probabilities")
    if content:
        first = content[0]
        listed = first.get("top_logprobs") or first.get("top_probs") or first.get("probs") or []
        return [_token(each) for each in listed]
    listed = logprobs.get("top_logprobs")
    return [(_spelled(token), value) for token, value in listed[0].items()] if listed and listed[0] else []


def _spelled(token: str) -> str:
    """Convert a token to text; some servers return the vocabulary's mark for the space before a word."""
    return f" {token[1:]}" if token[:1] in ("▁", "Ġ") else token


def _token(listed: Mapping[str, Any]) -> tuple[str, float]:
    token = _spelled(listed["token"] if "token" in listed else listed["tok_str"])
    if "logprob" in listed:
        return token, float(listed["logprob"])
    return token, math.log(listed["prob"]) if listed["prob"] > 0 else -math.inf
