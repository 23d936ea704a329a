"""Answers in a form that holds nothing else: a field of JSON, a LaTeX box, a tag."""

import json
import re

_FIELD = re.compile(
    r"[\"'](?:(?:final|correct|selected|predicted|best|my)?[_ ]?"
    r"(?:answers?|choices?|options?|labels?|letters?|prediction|response)"
    r"(?:[_ ]?(?:choices?|letters?|options?|idx|index|labels?|text|keys?))?"
    r"|(?:最終)?(?:答え|回答|解答|正解)|選択肢)[\"']\s*:\s*"
    r"(\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|\[[^\]]*\]?|[^\s,}\]\"']+)",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}?|\\fbox\{([^{}]*)\}")
_TAG = re.compile(r"<(answer|final_answer|choice|回答)>([\s\S]*?)(?:</\1>|\Z)", re.IGNORECASE)


def structured(text: str) -> tuple[tuple[str, list[str]], ...]:
    """What each form holds, under the name of the form."""
    field = json_field(text)
    boxes = [box[1] or box[2] or "" for box in _BOX.finditer(text)]
    tags = [tag[2] for tag in _TAG.finditer(text)]
    return (("json field", [] if field is None else [field]), ("boxed", boxes), ("tagged", tags))


def as_marks(text: str) -> str:
    """`text` with boxes and tags as marks like any other, for those that hold more than an answer."""
    return _TAG.sub(r"\nanswer: \2\n", _BOX.sub(r"\nboxed: \1\2\n", text))


def json_field(text: str) -> str | None:
    """The value of the last JSON field that is named like an answer; several values joined by commas."""
    fields = list(_FIELD.finditer(text)) if "{" in text else []
    if not fields:
        return None
    raw = fields[-1][1]
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return raw.strip("[]\"' ")
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
