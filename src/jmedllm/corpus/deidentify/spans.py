"""Spans of text that identify a person, and their kinds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

Label = Literal[
    "NAME",
    "DATE",
    "AGE90",
    "PHONE",
    "FAX",
    "POSTAL",
    "ADDRESS",
    "LOCATION",
    "HOSPITAL",
    "WARD",
    "ORG",
    "EMAIL",
    "URL",
    "PATIENT_ID",
    "INSURANCE_ID",
    "MYNUMBER",
    "LICENSE_ID",
    "ACCOUNT_ID",
    "DEVICE_ID",
]
"""Kinds of identifiers. HIPAA's 18 kinds (45 CFR 164.514(b)(2)) map to them; pictures and biometrics are no text."""

LABELS: tuple[Label, ...] = get_args(Label)

Confidence = Literal["certain", "likely", "possible"]
"""Whether the form alone proves the kind, the context supports it, or a person should review it."""

RANK: dict[Confidence, int] = {"certain": 2, "likely": 1, "possible": 0}


_FORMED = frozenset(LABELS) - {"NAME", "ADDRESS", "LOCATION", "HOSPITAL", "ORG"}
"""Kinds whose surrogates keep the form: other digits in a number, another day in a date."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters `start` to `end` (exclusive) of a text.

    Attributes:
        rule: name of the rule that found it. Reports count by it; it has no text.
    """

    start: int
    end: int
    label: Label
    confidence: Confidence = "certain"
    rule: str = ""


def resolve(spans: Iterable[Span]) -> list[Span]:
    """Return disjoint spans in order, which cover all that the given ones cover.

    Of two that overlap, the more certain one keeps its label; if equal, the longer one. What only the other covers
    joins it, so that no character of an identifier is left. Only dates and numbers are never made longer, since their
    surrogates keep letters: what only the other covers stays of its kind.
    """
    merged: list[Span] = []
    for span in sorted(spans, key=lambda each: (each.start, -each.end)):
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            best = max(last, span, key=lambda each: (RANK[each.confidence], each.end - each.start))
            if (
                span.end > last.end
                and last.label != span.label
                and (best.label in _FORMED or "DATE" in (last.label, span.label))
            ):
                edge = last.end if best == last else span.start
                merged[-1:] = [
                    each for each in (replace(last, end=edge), replace(span, start=edge)) if each.start < each.end
                ]
                continue
            merged[-1] = Span(last.start, max(last.end, span.end), best.label, best.confidence, best.rule)
        else:
            merged.append(span)
    return merged


def covered(spans: Sequence[Span], start: int, end: int) -> bool:
    """Return whether disjoint spans in order cover every character from `start` to `end`."""
    for span in spans:
        if span.start <= start < span.end:
            start = span.end
        if start >= end:
            return True
    return start >= end


def touches(spans: Iterable[Span], start: int, end: int) -> bool:
    """Return whether a span shares a character with `start` to `end`."""
    return any(span.start < end and start < span.end for span in spans)
