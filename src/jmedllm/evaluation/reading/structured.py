"""Answers in structured form: a JSON field, a LaTeX box, a tag."""

import json
import re

_FIELD = re.compile(
    r"[\"'](?:(?P<answer>(?:final|correct|selected|predicted|best|my)?[_ ]?(?:answers?|prediction|response)"
    r"(?:[_ ]?(?:choices?|letters?|options?|idx|index|labels?|text|keys?))?"
    r"|(?:final|correct|selected|predicted|best|my)[_ ]?(?:choices?|options?|labels?|letters?)"
    r"|(?:最終)?(?:答え|回答|解答|正解))|choices?|options?|labels?|letters?|選択肢)[\"']\s*:\s*"
    r"(?P<value>\"(?:[^\"\\]|\\.)*\"?|'[^']*'?|\[[^\]]*\]?|[^\s,{}\[\]\"']+)",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}?|\\fbox\{([^{}]*)\}")
_NOT = re.compile(r"\b(?:not|never|nor|than|of)[\s$(]*\Z", re.IGNORECASE)
_IS_WRONG = re.compile(r"[\s$)]*(?:(?:は|では|が)\s*(?:誤|間違|不正解|な)|is (?:not|wrong|incorrect))")
_TAG = re.compile(r"<(answer|final_answer|choice|回答)>([\s\S]*?)(?:</\1>|\Z)", re.IGNORECASE)


def structured(text: str) -> tuple[tuple[str, list[str]], ...]:
    """Return the values in each form, with the name of the form."""
    field = json_field(text)
    boxes = [box[1] or box[2] or "" for box in _BOX.finditer(text) if not _denied(text, box)]
    tags = [tag[2] for tag in _TAG.finditer(text)]
    return (("json field", [] if field is None else [field]), ("boxed", boxes), ("tagged", tags))


def _denied(text: str, box: re.Match[str]) -> bool:
    return bool(_NOT.search(text, max(0, box.start() - 20), box.start()) or _IS_WRONG.match(text, box.end()))


def as_markers(text: str) -> str:
    """Replace boxes and tags by markers, for those that contain more than an answer."""
    return _TAG.sub(r"\nanswer: \2\n", _BOX.sub(r"\nboxed: \1\2\n", text))


def json_field(text: str) -> str | None:
    """Return the value of the last JSON field named like an answer, with several values joined by commas.

    A field that may list all choices ("options") counts only if there is no other.
    """
    fields = list(_FIELD.finditer(text)) if "{" in text else []
    if not fields:
        return None
    raw = ([field for field in fields if field["answer"]] or fields)[-1]["value"]
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return raw.strip("[]\"' ")
    return ",".join(map(str, value)) if isinstance(value, list) else str(value).replace("|", ",")
