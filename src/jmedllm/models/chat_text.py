"""Renders chat templates as transformers does, without transformers."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.utils import Namespace

from jmedllm.errors import InputError
from jmedllm.models.sandbox import BoundedEnvironment, limited

RESERVED = ("messages", "tools", "documents", "add_generation_prompt")
"""Variables that requests cannot set."""

_REFUSALS = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError,
    SyntaxError,
)  # fmt: skip
"""Exceptions, besides jinja's own, that a template raises for messages that it does not support."""

WHAT = "the model's chat template"

_THOUGHT_KEYS = ("reasoning_content", "thinking", "reasoning")
"""Names of a message's thought. As in transformers, the first that is given is passed under all names."""


class _Generation(Extension):
    """The tag `generation` of transformers, which marks the text of the assistant and writes nothing itself."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it so

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        # A block of its own, because variables that it sets end with it.
        return nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    def _text(self, caller: Callable[[], str]) -> str:
        return caller()


class _Dict:
    """`dict` for templates, without access to the class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class _Namespace(Namespace):
    """`namespace` for templates, which refuses names of Python's internals."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, values = args[0], dict(*args[1:], **kwargs)
        for name in values:
            _check(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check(name)
        super().__setitem__(name, value)


def _check(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a template cannot set {name!r} in a namespace")


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: Any) -> None:
    raise TemplateError(str(message))


def _now(form: str) -> str:
    return datetime.now().strftime(form)


@lru_cache(maxsize=8)
def _compiled(source: str) -> Template:
    environment = BoundedEnvironment(  # prompts are text, not HTML
        {"tojson": _to_json}, trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    environment.globals |= {
        "raise_exception": _raise,
        "strftime_now": _now,
        "dict": _Dict(),
        "namespace": _Namespace,
    }
    return environment.from_string(source)


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    special: Mapping[str, str],
    variables: Mapping[str, Any] | None = None,
    *,
    answer: bool = True,
) -> str:
    """Render messages as the prompt that a model continues with its answer.

    Args:
        template: the Jinja chat template.
        messages: objects with `role` and `content`, of plain JSON values.
        special: texts of special tokens by the names that templates use.
        variables: values of the template's own variables.
        answer: whether to begin an answer of the assistant.

    Raises:
        TemplateLimitError: the template takes too long, or produces too much.
        InputError: the template is broken, or refuses the messages; the message has the template's reason.
    """
    given = [_with_thought({key: value for key, value in each.items() if value is not None}) for each in messages]
    try:
        text = limited(
            WHAT,
            lambda: _compiled(template).render(
                **{**special, **(variables or {})},
                messages=given,
                tools=None,
                documents=None,
                add_generation_prompt=answer,
            ),
        )
    except TemplateSyntaxError as error:
        raise broken(error) from error
    except (TemplateError, *_REFUSALS) as error:
        raise InputError(f"the model's chat template refuses this conversation: {first_line(error)}") from error
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise InputError(f"the prompt has {half}, half a character; remove it from the messages") from None
    return text


@lru_cache(maxsize=8)
def variables_of(template: str) -> frozenset[str]:
    """Return the variables of a template that a request can set, such as `enable_thinking`.

    Raises:
        InputError: the template is broken.
    """
    try:
        environment = limited(WHAT, lambda: _compiled(template)).environment
        tree = environment.parse(template)
    except TemplateSyntaxError as error:
        raise broken(error) from error
    except (RecursionError, MemoryError, SyntaxError) as error:
        raise InputError(f"the model's chat template cannot be compiled: {first_line(error)}") from error
    names = list(tree.find_all(nodes.Name))
    stored = {each.name for each in names if each.ctx == "store"}
    tested = {each.node.name for each in tree.find_all(nodes.Test) if isinstance(each.node, nodes.Name)}
    own = stored - tested  # templates give a default to a variable only if it is not defined
    known = {*RESERVED, *environment.globals, *own}
    return frozenset(
        name for name in meta.find_undeclared_variables(tree) if name not in known and not name.endswith("_token")
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type if it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def broken(error: TemplateSyntaxError) -> InputError:
    """Build the error for a template whose syntax is wrong."""
    return InputError(f"the model's chat template is broken: line {error.lineno}: {error.message}")


def _with_thought(message: dict[str, Any]) -> dict[str, Any]:
    thought = next((message[key] for key in _THOUGHT_KEYS if message.get(key) is not None), None)
    return message if thought is None else {"thinking": thought, **message, "reasoning_content": thought}
