"""Write the choice between texts in Go's template language."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

SYSTEM, DATE = "\ue010", "\ue011"
"""Private characters that stand for the system message and for today's date."""

Table = Mapping[tuple[Any, ...], str]
"""Texts by the values of the variables of `_VARIABLES`, and by the number of the way of thinking."""

_VARIABLES = ("$first", "$.System", "$last")
"""Names in Go of what is true or false: whether a user message is the first, whether there is a system message, and
whether the user message is the last of all."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What texts depend on, and what they consist of.

    Attributes:
        modes: the conditions of the ways of thinking in Go; empty for the last.
        markers: tokens that stay whole.
    """

    modes: Sequence[str]
    markers: Sequence[str]

    def units(self, text: str) -> list[str]:
        """Split a text into markers and characters."""
        markers = "|".join(map(re.escape, sorted(filter(None, self.markers), key=len, reverse=True)))
        return re.findall(f"{markers}|." if markers else ".", text, re.DOTALL)


def choice(table: Table, conditions: Conditions, variables: Sequence[str] = _VARIABLES) -> str:
    """Write nested conditions; what all texts share is written once."""
    texts = [conditions.units(text) for text in table.values()]
    start = shared_start(texts)
    if all(text == start for text in texts):
        return literal("".join(start))
    end = shared_start([text[len(start) :][::-1] for text in texts])[::-1]
    inner = {key: "".join(text[len(start) : len(text) - len(end)]) for key, text in zip(table, texts, strict=True)}
    tests: Mapping[Any, str] = {True: variables[0], False: ""} if variables else dict(enumerate(conditions.modes))
    branches = [
        (condition, {key[1:]: text for key, text in inner.items() if key[0] == value})
        for value, condition in tests.items()
    ]
    branches = [branch for branch in branches if branch[1]]
    while len(branches) > 1 and branches[-2][1] == branches[-1][1]:
        del branches[-2]  # the one before the last does what follows anyway
    written = [(condition, choice(each, conditions, variables[1:])) for condition, each in branches]
    return literal("".join(start)) + _conditions(written) + literal("".join(end))


def shared_start(texts: Sequence[Sequence[str]]) -> list[str]:
    """Return the characters, or units, that all texts begin with."""
    return [units[0] for units in takewhile(lambda each: len(set(each)) == 1, zip(*texts, strict=False))]


def _conditions(branches: Sequence[tuple[str, str]]) -> str:
    *tested, (_, otherwise) = branches
    if not tested:
        return otherwise
    if len(tested) == 1 and not tested[0][1]:
        return f"{{{{ if not {tested[0][0]} }}}}{otherwise}{{{{ end }}}}"
    chain = "{{ else if ".join(f"{condition} }}}}{text}" for condition, text in tested)
    return "{{ if " + chain + ("{{ else }}" + otherwise) * bool(otherwise) + "{{ end }}"


def refusal(reason: str) -> str:
    """Refuse a request: Go's error for a template that does not exist shows its name."""
    return f'{{{{ template "{reason}" . }}}}'


def refused_if(condition: str, reason: str) -> str:
    """Refuse requests for which a condition is true."""
    return f"{{{{ if {condition} }}}}{refusal(reason)}{{{{ end }}}}"


def literal(text: str) -> str:
    """Write a text. Ollama drops characters of a Modelfile that cannot be printed, so Go spells them."""
    spelled = {SYSTEM: "{{ $.System }}", DATE: "{{ currentDate }}", "{{": '{{ "{{" }}', '"""': r'{{ "\"\"\"" }}'}
    units = re.findall(r'\{\{|"""|.', text, re.DOTALL)
    return "".join(
        spelled.get(unit) or (unit if unit in "\n\t" or unit.isprintable() else _escaped(unit)) for unit in units
    )


def _escaped(character: str) -> str:
    code = ord(character)
    return f'{{{{ "\\u{code:04x}" }}}}' if code < 0x10000 else f'{{{{ "\\U{code:08x}" }}}}'
