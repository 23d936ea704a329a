"""Cleaning rules: each has a name, under which the report lists what it removed."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Removed(NamedTuple):
    """A piece of text that a rule removed or changed, as it was before."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class CleaningRule:
    """Replaces each match of `pattern` by `replacement`; an empty replacement removes it."""

    name: str
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str] = ""


def apply(rules: Iterable[CleaningRule], text: str, removed: list[Removed]) -> str:
    """Apply the rules in order, and append each piece that they remove or change to `removed`."""
    for rule in rules:
        replacement = rule.replacement

        def replace(match: re.Match[str], name: str = rule.name, new: str | Callable[..., str] = replacement) -> str:
            text = match.expand(new) if isinstance(new, str) else new(match)
            if text != match[0]:
                removed.append(Removed(name, match[0]))
            return text

        text = rule.pattern.sub(replace, text)
    return text
