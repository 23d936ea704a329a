"""A Jinja environment for templates from anywhere: their time, and the text that they produce, are limited.

Jinja's own sandbox keeps a template away from Python's internals, but not from `'a' * 10**10` or from nested loops.
Here each operation that can make a long text out of a short one is paid for, before it runs, from the budget of the
render. All that good templates do is the same, to the byte.
"""

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sized
from functools import wraps
from string import Formatter
from types import BuiltinMethodType
from typing import Any, TypeVar

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter

from jmedllm.errors import InputError
from jmedllm.models.time_limit import OverrunError, within

T = TypeVar("T")

MOST_SECONDS = 3.0
"""Processor time of one render, in seconds. A prompt of a million characters needs a hundredth of it."""

MOST_CHARACTERS = 1 << 27
"""Characters of one render: of its output and of all texts on the way to it."""

_MOST_BITS = 1 << 14
_ENTRY = 8
"""Characters that an entry of a list stands for."""

_SMALL = frozenset((int, float, bool, type(None)))
_TEXTS = (str, bytes)
_CONTAINERS = (list, tuple, dict, set, frozenset)
_REMOVED = ("urlize", "xmlattr", "wordwrap", "pprint")
"""Filters for HTML and for reading, slow on hostile texts, that no chat template needs."""

_SHALLOW = frozenset(
    ("abs", "attr", "batch", "count", "d", "default", "first", "float", "int", "items", "last", "length", "map",
     "random", "reject", "rejectattr", "round", "safe", "select", "selectattr", "slice")
)  # fmt: skip
"""Filters that look at the entries of a list, but not into them."""

_VISITING = ("groupby", "join", "list", "max", "min", "sort", "sum", "unique")
"""Filters that look into the entries of an iterator, which is made a list to know them before."""

_WIDENING = dict.fromkeys(("escape", "e", "forceescape", "urlencode"), 6)
_WIDTHS = re.compile(r"[0-9]+")
_DIRECTIVES = re.compile(r"%(?:\([^)]*\))?[-#0 +]*([0-9]+|\*)?(?:\.([0-9]+|\*))?")


class TemplateLimitError(InputError):
    """A template takes too long or produces too much: another try would end in the same way."""


class _OverBudgetError(Exception):
    pass


class _Budget(threading.local):
    left = 0


_budget = _Budget()


def limited(what: str, work: Callable[[], T]) -> T:
    """Compile or render a template within the limits.

    Args:
        what: name of the template, for the message.

    Raises:
        TemplateLimitError: it takes too long, or produces too much.
    """
    outer, _budget.left = _budget.left, MOST_CHARACTERS
    try:
        return within(MOST_SECONDS, work)
    except OverrunError:
        problem = f"runs for more than {MOST_SECONDS:g} seconds"
    except _OverBudgetError:
        problem = f"produces more than {MOST_CHARACTERS:,} characters"
    finally:
        _budget.left = outer
    raise TemplateLimitError(f"{what} {problem}; use another template")


def _spend(characters: int) -> None:
    if characters > _budget.left:
        raise _OverBudgetError
    _budget.left -= characters


def _extent(value: Any, depth: int = 1, known: dict[int, tuple[int, int]] | None = None) -> tuple[int, int]:
    """Return about how many characters a value has when it is written, and how deeply it is nested.

    A list that contains the same list many times is counted as often, but visited once.
    """
    if isinstance(value, str | bytes):
        return len(value), depth
    if isinstance(value, int):
        return value.bit_length() // 3 + 1, depth
    if not isinstance(value, _CONTAINERS):
        return _ENTRY, depth
    known = {} if known is None else known
    if (found := known.get(id(value))) is None:
        inside = [_extent(each, 1, known) for each in value]
        if isinstance(value, dict):
            inside += [_extent(each, 1, known) for each in value.values()]
        total = _ENTRY + sum(size + 2 for size, _ in inside)
        found = known[id(value)] = total, 1 + max((deep for _, deep in inside), default=0)
    return found[0], depth - 1 + found[1]


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str) else _extent(value)[0]


def _sized(value: Any) -> Any:
    """Pay for a value whose parts are all visited, if it has parts."""
    if isinstance(value, _CONTAINERS):
        _spend(_extent(value)[0])
    return value


def _written(value: Any) -> Any:
    """Pay for writing a value that is not text."""
    if not isinstance(value, str) and type(value) not in _SMALL:
        _spend(_extent(value)[0])
    return value


def _concat(pieces: Iterable[str]) -> str:
    kept, left = [], _budget.left
    for piece in pieces:
        kept.append(piece)
        left -= len(piece) + _ENTRY
        if left < 0:
            raise _OverBudgetError
    _spend(sum(map(len, kept)) + _ENTRY * len(kept))
    return "".join(kept)


class _CodeGenerator(CodeGenerator):
    """Routes the operations that Jinja offers no hook for through the environment."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        markup = "markup_join" if frame.eval_ctx.autoescape else "str_join"
        joins = f"(markup_join if context.eval_ctx.volatile else {markup})" if frame.eval_ctx.volatile else markup
        self.write(f"environment.joined({joins}, (")
        for each in node.nodes:
            self.visit(each, frame)
            self.write(", ")
        self.write("))")

    def visit_Tuple(self, node: nodes.Tuple, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        """Pay for a tuple at once, because it may become a key, whose hash visits all of it."""
        paid = node.ctx == "load" and not all(isinstance(each, nodes.Const) for each in node.items)
        self.write("environment.sized(" * paid)
        super().visit_Tuple(node, frame)
        self.write(")" * paid)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        self.write("(")
        self._compared(node.expr, frame)
        for each in node.ops:
            self.visit(each, frame)
        self.write(")")

    def visit_Operand(self, node: nodes.Operand, frame: Frame) -> None:  # noqa: N802 - Jinja's name
        self.write(f" {_OPERATORS[node.op]} ")
        self._compared(node.expr, frame)

    def _compared(self, node: nodes.Expr, frame: Frame) -> None:
        if isinstance(node, nodes.Const):
            self.visit(node, frame)
            return
        self.write("environment.sized(")
        self.visit(node, frame)
        self.write(")")


_OPERATORS = {
    "eq": "==", "ne": "!=", "gt": ">", "gteq": ">=", "lt": "<", "lteq": "<=", "in": "in", "notin": "not in",
}  # fmt: skip


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """A sandbox whose templates are compiled and rendered inside `limited`."""

    code_generator_class = _CodeGenerator
    intercepted_binops = frozenset(("+", "*", "**", "%"))
    concat = staticmethod(_concat)
    sized = staticmethod(_sized)

    def __init__(self, filters: Mapping[str, Callable[..., Any]] | None = None, **options: Any) -> None:
        super().__init__(finalize=_written, **options)
        self.filters |= filters or {}
        for name in _REMOVED:
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters = {name: _paid_filter(name, function) for name, function in self.filters.items()}
        self.tests = {name: _paid_test(function) for name, function in dict[str, Any](self.tests).items()}

    def joined(self, join: Callable[[tuple[Any, ...]], str], items: tuple[Any, ...]) -> str:
        """Join the operands of `~`."""
        _spend(sum(map(_size, items)))
        return join(items)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Run an operator that may produce much."""
        if operator == "%" and isinstance(left, str):
            _spend(_percent(left, right))
        elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            _spend((len(left) + len(right)) * (1 if isinstance(left, str) else _ENTRY))
        elif operator == "*":
            _spend(_product(left, right))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int):
            _require_bits(left.bit_length() * max(right, 1))
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Call a function or a method that may produce much."""
        if isinstance(__obj, BuiltinMethodType):
            args = _paid_method(__obj, args, kwargs)
        elif not isinstance(__obj, Macro):
            for each in (*args, *kwargs.values()):
                _spend(_size(each))
        else:
            for each in args:
                if isinstance(each, tuple):
                    _sized(each)
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return a replacement for the methods `format` and `format_map` of a text."""
        found = super().wrap_str_format(value)
        if found is None:
            return None
        text, by_mapping = str(value.__self__), value.__name__ == "format_map"
        formatter = _BoundedFormatter(self)

        @wraps(found)
        def wrapper(*args: Any, **kwargs: Any) -> str:
            _spend(len(text))
            return formatter.vformat(text, *(((), args[0]) if by_mapping and len(args) == 1 else (args, kwargs)))

        return wrapper


class _BoundedFormatter(SandboxedFormatter):
    def convert_field(self, value: Any, conversion: Any) -> Any:
        if conversion:
            _spend(_size(value))
        return Formatter.convert_field(self, value, conversion)

    def format_field(self, value: Any, format_spec: str) -> Any:
        _spend(_size(value) + sum(map(_number, _WIDTHS.findall(format_spec))))
        return Formatter.format_field(self, value, format_spec)


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 10 else MOST_CHARACTERS + 1


def _require_bits(bits: int) -> None:
    if bits > _MOST_BITS:
        raise _OverBudgetError


def _product(left: Any, right: Any) -> int:
    if isinstance(left, int) and isinstance(right, int):
        _require_bits(left.bit_length() + right.bit_length())
        return 0
    text, times = (right, left) if isinstance(left, int) else (left, right)
    if not (isinstance(text, Sized) and isinstance(times, int)):
        return 0
    return len(text) * max(times, 0) * (1 if isinstance(text, str | bytes) else _ENTRY)


def _percent(text: str, values: Any) -> int:
    """Return at most how many characters a text with directives such as %5d becomes."""
    found = _DIRECTIVES.findall(text)
    if any("*" in each for each in found):
        raise SecurityError("the width * is not supported in a format")
    widths = sum(_number(digits) for each in found for digits in each if digits)
    return len(text) + widths + len(found) * _size(values)


def _replaced(text: str, old: str, new: str, count: int | None = -1) -> int:
    places = text.count(old) if count is None or count < 0 else min(text.count(old), count)
    return len(text) + places * len(new)


def _paid_method(method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Pay for a method of a built-in type; returns its arguments, with a list in place of an iterator."""
    owner, name = method.__self__, method.__name__
    if name in ("translate", "to_bytes", "from_bytes", "maketrans"):
        raise SecurityError(f"the method {name} is not supported")
    given = (*args, *kwargs.values())
    whole = sum(abs(each) for each in given if isinstance(each, int))
    if name == "join" and args:
        args = (args[0] if isinstance(args[0], Sized) else list(args[0]), *args[1:])
        _spend(_size(args[0]) + len(args[0]) * len(owner))
    elif name == "replace" and len(args) > 1:
        _spend(_replaced(*(owner, *args[:3])))
    elif name == "expandtabs":
        _spend(len(owner) * (8 + whole))
    elif name in ("split", "rsplit", "splitlines") and isinstance(owner, str):
        pieces = owner.count(given[0]) if given and isinstance(given[0], str) and given[0] else len(owner)
        _spend(len(owner) + pieces * _ENTRY)
    else:
        _spend(whole + sum(_size(each) for each in given) + (len(owner) if isinstance(owner, str) else 0))
    return args


def _paid_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that is paid for before it runs."""
    passed = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        value, others = args[passed], (*args[passed + 1 :], *kwargs.values())
        if name in _VISITING and not isinstance(value, Sized):
            value = list(value)
            args = (*args[:passed], value, *args[passed + 1 :])
        _spend(_price(name, value, others))
        return function(*args, **kwargs)

    return paid


def _price(name: str, value: Any, others: tuple[Any, ...]) -> int:
    """Return at most how many characters a filter produces or visits."""
    whole = sum(abs(each) for each in others if isinstance(each, int))
    texts = sum(_size(each) for each in others if isinstance(each, _TEXTS + _CONTAINERS))
    if name in _SHALLOW:
        return whole + (texts if name != "default" else 0)
    if name in ("list", "reverse") and isinstance(value, Sized):
        return len(value) * (1 if name == "reverse" and isinstance(value, str) else _ENTRY)
    size, depth = _extent(value)
    if name == "sum" and isinstance(value, Sized) and any(isinstance(each, list | tuple) for each in others):
        return size * len(value)  # each addition copies the list so far
    if name == "tojson":
        return size * (2 + (whole + texts) * depth)
    if name == "indent":
        return size + (str(value).count("\n") + 1) * (whole + texts)
    if name == "join":
        return size + len(value) * texts if isinstance(value, Sized) else size
    if name == "replace" and len(others) > 1:
        return _replaced(str(value), str(others[0]), str(others[1]))
    if name == "format":
        return _percent(str(value), others)
    return size * _WIDENING.get(name, 1) + whole + texts


def _paid_test(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a test that pays for the values that it compares."""

    @wraps(function)
    def paid(*args: Any, **kwargs: Any) -> Any:
        if len(args) > 1:
            for each in args:
                _sized(each)
        return function(*args, **kwargs)

    return paid
