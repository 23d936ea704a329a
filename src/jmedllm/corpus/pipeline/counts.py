"""Counts of documents after each step, by source, language and licence."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from jmedllm.corpus.documents import Document

BuildStep = Literal["read", "clean", "deduplicate", "decontaminate"]
"""A count of a step is its output. Its input is the output of the step before."""

Column = Literal["source", "language", "license"]

UNNAMED = "not stated"


class CountKey(NamedTuple):
    """Documents with the same key are counted together."""

    step: BuildStep
    source: str
    language: str
    license: str


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of text. `tokens` is 0 if there is no tokenizer."""

    documents: int = 0
    characters: int = 0
    tokens: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.documents + other.documents, self.characters + other.characters, self.tokens + other.tokens)


class Counts:
    """Amounts by key."""

    def __init__(self) -> None:
        self.amounts: dict[CountKey, Amount] = {}

    def add(self, step: BuildStep, document: Document, language: str, amount: Amount) -> None:
        """Count a document."""
        key = CountKey(step, document.source or UNNAMED, language, document.license or UNNAMED)
        self.amounts[key] = self.amounts.get(key, Amount()) + amount

    def merge(self, rows: Iterable[list[Any]]) -> None:
        """Add the rows of other counts."""
        for step, source, language, license_, *counts in rows:
            key = CountKey(step, source, language, license_)
            self.amounts[key] = self.amounts.get(key, Amount()) + Amount(*counts)

    def rows(self) -> list[list[Any]]:
        """Return all counts as plain values, sorted by key."""
        return [
            [*key, amount.documents, amount.characters, amount.tokens] for key, amount in sorted(self.amounts.items())
        ]

    def by(self, *columns: Column) -> dict[tuple[str, ...], dict[BuildStep, Amount]]:
        """Return the amount after each step for each value of the columns, largest first."""
        found: dict[tuple[str, ...], dict[BuildStep, Amount]] = {}
        for key, amount in self.amounts.items():
            steps = found.setdefault(tuple(getattr(key, column) for column in columns), {})
            steps[key.step] = steps.get(key.step, Amount()) + amount
        return dict(sorted(found.items(), key=lambda item: (-item[1].get("read", Amount()).characters, item[0])))
