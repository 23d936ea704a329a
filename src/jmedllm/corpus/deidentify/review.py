"""The review list: what a person should look at, with its text. It is written only when it is asked for."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from jmedllm.corpus.deidentify.fold import fold
from jmedllm.corpus.deidentify.spans import Span, touches

_CONTEXT = 20
"""Characters of context on each side."""

_AGE = r"(?:\d{1,3}\s?(?:歳|才|代|[- ]?years?[- ]old|[- ]?y/?o\b)|[（(]\d{1,3}[)）])"
_INITIALS = re.compile(
    rf"(?<![A-Za-z])(?:[A-Z]\.?[・ ]?[A-Z]\.?|[A-Z]\.?)(?:\s?(?:さん|氏|様|君|ちゃん|殿))?[、,\s]{{0,2}}(?={_AGE})"
    r"|(?<![A-Za-z])[A-Z]\.?[・ ]?[A-Z]?\.?\s?(?:さん|氏|様|君|ちゃん|殿)(?=[^A-Za-z])"
)


def to_review(where: str, text: str, spans: Sequence[Span]) -> Iterator[dict[str, Any]]:
    """Yield the uncertain finds of a document, which are replaced, and initials beside an age or a title, which are
    not, each with its context."""
    for span in spans:
        if span.confidence != "certain":
            yield _row(where, text, span.start, span.end, span.label, span.confidence, span.rule)
    for match in _INITIALS.finditer(fold(text)):
        end = match.start() + len(match[0].rstrip(" 、,\n"))
        if not touches(spans, match.start(), end):
            yield _row(where, text, match.start(), end, "INITIALS", "kept", "review:initials")


def _row(where: str, text: str, start: int, end: int, label: str, confidence: str, rule: str) -> dict[str, Any]:
    return {
        "where": where,
        "start": start,
        "end": end,
        "label": label,
        "confidence": confidence,
        "rule": rule,
        "before": text[max(0, start - _CONTEXT) : start],
        "text": text[start:end],
        "after": text[end : end + _CONTEXT],
    }
