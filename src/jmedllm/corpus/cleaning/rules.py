"""A cleaning rule: what is taken out of a text, under a name that the report tells."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Removed(NamedTuple):
    """A piece that a rule took out or changed, as it stood in the text."""

    rule: str
    text: str


@dataclass(frozen=True, slots=True)
class Rule:
    """What matches `pattern` is replaced by `put`: nothing, or what of it is worth keeping."""

    name: str
    pattern: re.Pattern[str]
    put: str | Callable[[re.Match[str]], str] = ""


def apply(rules: Iterable[Rule], text: str, removed: list[Removed]) -> str:
    """Apply the rules in order; whatever they take out is appended to `removed`."""
    for rule in rules:
        kept = rule.put

        def take(match: re.Match[str], name: str = rule.name, kept: str | Callable[..., str] = kept) -> str:
            put = match.expand(kept) if isinstance(kept, str) else kept(match)
            if put != match[0]:
                removed.append(Removed(name, match[0]))
            return put

        text = rule.pattern.sub(take, text)
    return text
