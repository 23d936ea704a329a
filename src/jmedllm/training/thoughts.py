"""Thoughts (reasoning) in training data: beside the content of a message, or at its start between markers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jmedllm.errors import InputError
from jmedllm.models.chat import THOUGHT_KEYS, THOUGHT_PARTS
from jmedllm.models.thoughts import Border, Thought, borders, without_headers

THOUGHT_FIELDS = tuple(key for key in THOUGHT_KEYS if key != THOUGHT_PARTS)
"""Keys of a message or a record that contain a thought."""

THOUGHT = THOUGHT_FIELDS[0]
"""The key under which we keep it."""

_HARMONY_CLOSING = re.compile(r"\s*<\|(?:return|end)\|>\s*\Z")
"""What the Harmony format (gpt-oss) writes after an answer."""


def thought_beside(record: Mapping[str, Any]) -> str:
    """Return the thought of a record or message under one of its keys, or "".

    Raises:
        InputError: it is no text, or there are two different ones.
    """
    found: dict[str, str] = {}
    for key in THOUGHT_FIELDS:
        value = record.get(key) or ""
        if not isinstance(value, str):
            raise InputError(f"{key} must be a text or left out")
        if value.strip():
            found[key] = value.strip()
    first = next(iter(found.items()), ("", ""))
    for other in found.items():
        _require_same(first, other)
    return first[1]


def read_thought(beside: str, content: str) -> tuple[str, str]:
    """Return the thought of a reply, or "", and its answer.

    Args:
        beside: the thought that is given apart from the content, or "".

    Raises:
        InputError: see `split_thought`; or the content has another thought.
    """
    inline, answer = split_thought(content)
    if beside and inline:
        _require_same((THOUGHT, beside), ("the content", inline))
    return beside or inline, answer


def _require_same(first: tuple[str, str], other: tuple[str, str]) -> None:
    if first[1] != other[1]:
        raise InputError(f"two different thoughts, in {first[0]} and {other[0]}; keep one")


def with_thought_apart(message: Mapping[str, str], more: Sequence[Thought]) -> dict[str, str]:
    """Return a message of the assistant with a thought between further markers under our key; others unchanged.

    Raises:
        InputError: see `split_thought`.
    """
    if message["role"] != "assistant" or message.get(THOUGHT):
        return dict(message)
    thought, answer = split_thought(message["content"], more)
    return {**message, "content": answer} | ({THOUGHT: thought} if thought else {})


def require_no_thought(message: Mapping[str, Any], role: str, content: str) -> None:
    """Check that a message of the user or the system contains no thought.

    Raises:
        InputError: it does.
    """
    key = next((key for key in THOUGHT_FIELDS if message.get(key)), None)
    first = next(iter(borders(content)), None)
    begins = first is not None and first.kind == "opening" and not content[: first.start].strip()
    if key is None and begins and first is not None and (closing := _closing(content, first, ())) is not None:
        key = "in its content" if content[first.end : closing.start].strip() else None
    if key is not None:
        raise InputError(f"a thought ({key}) in a message of role {role}; only the assistant thinks: remove it")


def split_thought(text: str, more: Sequence[Thought] = ()) -> tuple[str, str]:
    """Split a reply that begins with a thought into the thought and the answer.

    The opening marker may be missing, because some templates write it into the prompt. Without a thought, or with an
    empty one, the thought is "". Markers in the middle of a text are part of it.

    Args:
        more: markers in addition to the published ones, see `thoughts_of_template`.

    Raises:
        InputError: the thought is not closed, another one follows, or no answer follows.
    """
    first = _first(text, more)
    if first is None:
        return "", text
    if first.kind != "opening":  # a closing without its opening, or the header of an answer
        thought, answer = text[: first.start], text[first.end :]
        begun = first.kind == "closing"
    else:
        closing = _closing(text, first, more)
        if closing is None:
            raise InputError(f"the thought {text[first.start : first.end].strip()!r} is not closed; complete it")
        thought, answer, begun = text[first.end : closing.start], text[closing.end :], True
    if first.thought is None:
        thought, answer = without_headers(thought), _HARMONY_CLOSING.sub("", answer)
    answer = answer.lstrip()
    following = next(iter(borders(answer, more)), None) if begun else None
    if following is not None and following.kind == "opening" and following.start == 0:
        raise InputError("the content has two thoughts; join them")
    if not answer:
        raise InputError("there is a thought, but no answer after it; complete it")
    return thought.strip(), answer


def _first(text: str, more: Sequence[Thought]) -> Border | None:
    """Return the marker with which a thought or the header of an answer begins or ends; None if there is none.

    A closing marker that is plain words is only one after its opening.
    """
    for border in borders(text, more):
        if border.thought is not None and border.thought.nested:
            continue
        at_start = not text[: border.start].strip()
        if border.kind == "closing":
            return border if not text[border.start].isalpha() else None
        return border if at_start else None
    return None


def _closing(text: str, opening: Border, more: Sequence[Thought]) -> Border | None:
    """Return the marker that ends the thought after `opening`."""
    ends = "answer" if opening.thought is None else "closing"
    return next(
        (
            border
            for border in borders(text, more)
            if border.start >= opening.end
            and border.kind == ends
            and (opening.thought is None or border.thought == opening.thought)
        ),
        None,
    )
