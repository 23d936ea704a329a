"""Render templates in the part of Go's template language that Modelfiles use.

Supported are text, values, `if`, `else if`, `else`, `range`, `template`, `end`, variables, parentheses, the operators
below, strings, whole numbers and the two logical values. Everything else is refused, as are names that do not exist.
https://pkg.go.dev/text/template
"""

import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jmedllm.errors import InputError

_ACTION = re.compile(r'\{\{((?:"(?:\\.|[^"\\])*"|[^"}]|\}(?!\}))*)\}\}', re.DOTALL)
_TOKEN = re.compile(r'\s*(?:("(?:\\.|[^"\\])*")|(-?\d+)|(:=|[=(),])|(\$?\w*(?:\.\w+)+|\$?\w+|[$.]))')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")
_BLOCKS = ("if", "else", "range", "end", "template")


@dataclass(frozen=True, slots=True)
class _Scope:
    """What names mean at one place: the dot, and the variables with those of the enclosing blocks."""

    dot: Any
    variables: ChainMap[str, Any]

    def block(self, dot: Any, **variables: Any) -> "_Scope":
        return _Scope(dot, self.variables.new_child(variables))


_Value = Callable[[_Scope], Any]
_Node = Callable[[_Scope], Iterator[str]]


def render(template: str, values: Mapping[str, Any], functions: Mapping[str, str] | None = None) -> str:
    """Render a template.

    Args:
        template: its text.
        values: what the dot is at the start.
        functions: results of functions without arguments, by name.

    Raises:
        InputError: the template uses something else than this module supports, or the template refuses the values.
    """
    parser = _Parser(template, functions or {})
    nodes = parser.nodes()
    parser.require_end()
    return "".join(_written(nodes, _Scope(values, ChainMap({"$": values}))))


def _written(nodes: list[_Node], scope: _Scope) -> Iterator[str]:
    for node in nodes:
        yield from node(scope)


class _Parser:
    """Reads text and actions in turn; one call of `nodes` reads one block."""

    def __init__(self, template: str, functions: Mapping[str, str]) -> None:
        parts = _ACTION.split(template)
        self.parts = list(zip(parts[::2], [*map(_tokens, parts[1::2]), []], strict=True))
        self.at = 0
        self.functions = functions

    def nodes(self) -> list[_Node]:
        """Read up to the `else` or `end` of this block, which is left as the current action."""
        found: list[_Node] = []
        while True:
            text, action = self.parts[self.at]
            found.append(_text(text))
            if not action or action[0] in ("else", "end"):
                return found
            found.append(self.action(action))

    def require_end(self) -> None:
        if self.parts[self.at][1]:
            raise InputError(f"go template: {{{{{self.parts[self.at][1][0]}}}}} without its beginning")

    def action(self, action: list[str]) -> _Node:
        self.at += 1
        if action[0] == "if":
            return self.condition(action[1:])
        if action[0] == "range":
            return self.loop(action[1:])
        if action[0] == "template":
            return _refusal(_literal(action[1]))
        if action[1:2] in ([":="], ["="]):
            return _assignment(action[0], action[1] == ":=", self.value(action[2:]))
        return _output(self.value(action))

    def condition(self, tokens: list[str]) -> _Node:
        test, then, otherwise = self.value(tokens), self.nodes(), list[_Node]()
        closing = self.closing()
        if closing[:2] == ["else", "if"]:
            otherwise = [self.condition(closing[2:])]
        elif closing == ["else"]:
            otherwise = self.nodes()
            if self.closing() != ["end"]:
                raise InputError("go template: {{ else }} twice in a block")
        return lambda scope: _written(then if test(scope) else otherwise, scope.block(scope.dot))

    def loop(self, tokens: list[str]) -> _Node:
        names: list[str] = []
        if ":=" in tokens:
            names = [token for token in tokens[: tokens.index(":=")] if token != ","]
            tokens = tokens[tokens.index(":=") + 1 :]
        items, body = self.value(tokens), self.nodes()
        if self.closing() != ["end"]:
            raise InputError("go template: {{ else }} of a range is not supported")

        def write(scope: _Scope) -> Iterator[str]:
            for index, item in enumerate(items(scope)):
                given = dict(zip(names, (index, item)[-len(names) :], strict=True)) if names else {}
                yield from _written(body, scope.block(item, **given))

        return write

    def closing(self) -> list[str]:
        """Return the `else` or `end` of the block that was just read, and go past it."""
        closing = self.parts[self.at][1]
        if not closing:
            raise InputError("go template: a block has no {{ end }}")
        self.at += 1
        return closing

    def value(self, tokens: list[str]) -> _Value:
        found, rest = self.call(tokens)
        if rest:
            raise InputError(f"go template: unexpected {rest[0]!r} in an action")
        return found

    def call(self, tokens: list[str]) -> tuple[_Value, list[str]]:
        """Read a function with its arguments, or one operand."""
        if not tokens:
            raise InputError("go template: an action is empty")
        name = tokens[0]
        if name in self.functions:
            return _constant(self.functions[name]), tokens[1:]
        if name not in _OPERATORS:
            return self.operand(tokens)
        arguments, rest = list[_Value](), tokens[1:]
        while rest and rest[0] != ")":
            argument, rest = self.operand(rest)
            arguments.append(argument)
        return _operation(name, arguments), rest

    def operand(self, tokens: list[str]) -> tuple[_Value, list[str]]:
        token = tokens[0]
        if token == "(":
            found, rest = self.call(tokens[1:])
            if rest[:1] != [")"]:
                raise InputError("go template: a parenthesis is not closed")
            return found, rest[1:]
        return _operand(token), tokens[1:]


def _tokens(action: str) -> list[str]:
    found, at, action = list[str](), 0, action.rstrip()
    while at < len(action):
        if (match := _TOKEN.match(action, at)) is None:
            raise InputError(f"go template: {{{{{action}}}}} is not supported")
        found.append(next(group for group in match.groups() if group is not None))
        at = match.end()
    if not found:
        raise InputError("go template: an action is empty")
    return found


def _text(text: str) -> _Node:
    return lambda _: iter((text,))


def _output(value: _Value) -> _Node:
    def write(scope: _Scope) -> Iterator[str]:
        found = value(scope)
        if not isinstance(found, str):
            raise InputError(f"go template: only text can be written, not {found!r}")
        yield found

    return write


def _assignment(name: str, new: bool, value: _Value) -> _Node:
    def write(scope: _Scope) -> Iterator[str]:
        found = value(scope)
        places = [scope.variables.maps[0]] if new else [each for each in scope.variables.maps if name in each]
        if not places:
            raise InputError(f"go template: {name} is not declared")
        places[0][name] = found
        return iter(())

    return write


def _refusal(name: str) -> _Node:
    """Return what a template that is not defined does: Go raises an error that names it."""

    def write(_: _Scope) -> Iterator[str]:
        raise InputError(name)

    return write


def _constant(value: Any) -> _Value:
    return lambda _: value


def _literal(token: str) -> str:
    def character(match: re.Match[str]) -> str:
        code = match[1] or match[2]
        return chr(int(code, 16)) if code else _ESCAPES[match[3]]

    return _ESCAPE.sub(character, token[1:-1])


def _operand(token: str) -> _Value:
    if token.startswith('"'):
        return _constant(_literal(token))
    if token.lstrip("-").isdigit():
        return _constant(int(token))
    if token in ("true", "false"):
        return _constant(token == "true")
    start, *fields = token.split(".")
    if (start and not start.startswith("$")) or token in _BLOCKS:
        raise InputError(f"go template: {token} is not supported")
    fields = [field for field in fields if field]

    def value(scope: _Scope) -> Any:
        try:
            found = scope.variables[start] if start else scope.dot
            for field in fields:
                found = found[field]
        except KeyError:
            raise InputError(f"go template: there is no {token}") from None
        return found

    return value


def _operation(name: str, arguments: list[_Value]) -> _Value:
    if name in ("and", "or"):
        return lambda scope: _first(scope, arguments, stop=name == "or")
    return lambda scope: _OPERATORS[name](*(argument(scope) for argument in arguments))


def _first(scope: _Scope, arguments: list[_Value], *, stop: bool) -> Any:
    """Return the first argument that decides `and` or `or`, else the last."""
    found = None
    for argument in arguments:
        found = argument(scope)
        if bool(found) == stop:
            break
    return found


def _equal(first: Any, *others: Any) -> bool:
    if any(type(other) is not type(first) for other in others):
        raise InputError("go template: eq compares values of different types")
    return first in others


_OPERATORS: dict[str, Callable[..., Any]] = {
    "and": all,
    "or": any,
    "eq": _equal,
    "ne": lambda first, second: not _equal(first, second),
    "not": lambda value: not value,
    "len": len,
    "slice": lambda values, *at: values[slice(*at) if len(at) > 1 else slice(at[0], None)],
    "index": lambda values, at: values[at],
}
