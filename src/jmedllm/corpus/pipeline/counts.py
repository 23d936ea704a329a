"""Counts of what went in and out of each step, by source, language and licence."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from jmedllm.corpus.readers.read import Document

Step = Literal["read", "clean", "deduplicate", "decontaminate"]
"""A count of a step is of what came out of it; what went in is what came out of the one before."""


Column = Literal["source", "language", "license"]


class Kind(NamedTuple):
    """What documents are counted together by."""

    step: Step
    source: str
    language: str
    license: str


@dataclass(frozen=True, slots=True)
class Amount:
    """How much text. `tokens` is 0 throughout where no tokenizer is given."""

    documents: int = 0
    characters: int = 0
    tokens: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.documents + other.documents, self.characters + other.characters, self.tokens + other.tokens)


class Tally:
    """Amounts by kind."""

    def __init__(self) -> None:
        self.amounts: dict[Kind, Amount] = {}

    def add(self, step: Step, document: Document, language: str, amount: Amount) -> None:
        """Count a document in."""
        kind = Kind(step, document.source or UNNAMED, language, document.license or UNNAMED)
        self.amounts[kind] = self.amounts.get(kind, Amount()) + amount

    def merge(self, rows: Iterable[list[Any]]) -> None:
        """Count in what another tally has written as rows."""
        for step, source, language, license_, *counts in rows:
            kind = Kind(step, source, language, license_)
            self.amounts[kind] = self.amounts.get(kind, Amount()) + Amount(*counts)

    def rows(self) -> list[list[Any]]:
        """All counts as plain values, sorted."""
        return [
            [*kind, amount.documents, amount.characters, amount.tokens]
            for kind, amount in sorted(self.amounts.items())
        ]

    def by(self, *columns: Column) -> dict[tuple[str, ...], dict[Step, Amount]]:
        """For each value of the columns the amount behind each step, the largest first."""
        found: dict[tuple[str, ...], dict[Step, Amount]] = {}
        for kind, amount in self.amounts.items():
            steps = found.setdefault(tuple(getattr(kind, column) for column in columns), {})
            steps[kind.step] = steps.get(kind.step, Amount()) + amount
        return dict(sorted(found.items(), key=lambda item: (-item[1].get("read", Amount()).characters, item[0])))


UNNAMED = "not stated"
