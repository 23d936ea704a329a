"""A model's chat template: the one way from messages to text, and how the template ends a turn of the assistant.

Training, evaluation and planning render through it, so that the same messages are the same text everywhere.
"""

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jmedllm.errors import InputError, unknown
from jmedllm.files import hash_text
from jmedllm.models.tokenizer.encoding import Tokenizer

if TYPE_CHECKING:
    from jinja2 import TemplateSyntaxError

Messages = Sequence[Mapping[str, str]]

ChatText = Callable[[list[dict[str, str]]], str]
"""Messages in, the text that makes a model answer them out."""

CLOCK = "strftime_now"
"""The function by which templates read today's date."""

_FIXED_CLOCK = (
    "{%- macro strftime_now(format) -%}{%- set told = namespace(text=format) -%}"
    "{%- for directive, value in jmedllm_clock.items() -%}"
    "{%- set told.text = told.text | replace(directive, value) -%}{%- endfor -%}{{- told.text -}}"
    "{%- endmacro %}\n"
)
"""Stands before a template and gives it a clock that stands still. A macro, because transformers hands templates
plain values only; its line feed goes with `trim_blocks`, so the template begins on a line of its own."""

RESERVED = {
    "messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt",
    "continue_final_message", "tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict",
    "return_assistant_tokens_mask", "tokenizer_kwargs", "sanitize_control_tokens",
}  # fmt: skip
"""Variables that transformers or this package sets."""

_JINJA = {
    "and", "break", "continue", "elif", "else", "endfor", "endgeneration", "endif", "endmacro", "endset", "false",
    "False", "for", "generation", "if", "in", "is", "loop", "macro", "none", "None", "not", "or", "set", "true",
    "True",
}  # fmt: skip

_STAND_IN, _ASKED = "\ue000", "\ue001"
"""Private characters: no template writes them."""

_REFUSALS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""What a template raises, besides jinja's own errors, at messages that it was not made for."""


def no_template(messages: list[dict[str, str]]) -> str:
    """Stands where nobody gave a chat template.

    Raises:
        InputError: always.
    """
    raise InputError("this model was opened without its chat template; ask without chat")


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """What a template writes behind the assistant's last words.

    Attributes:
        text: up to and including the first marker token; a line feed behind that belongs to no turn. Without a
            marker all of it but the white space at its end, which may be nothing.
        token: the marker's id. Where the template closes no turn with one, the marker that begins the next
            turn; None where there is none at all.
        words: `text` where no marker is in it.
    """

    text: str = ""
    token: int | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A tokenizer's chat template with all that shapes its text besides the messages.

    Attributes:
        variables: values for the template's own variables, such as {"enable_thinking": False}.
        date: the day that the template reads as today's, as YYYY-MM-DD; None for the real one.
    """

    tokenizer: Tokenizer
    variables: Mapping[str, Any] = field(default_factory=dict)
    date: str | None = None

    @property
    def source(self) -> str:
        """The template itself; of several that a tokenizer has, the default one.

        Raises:
            InputError: there is none.
        """
        if not self.tokenizer.chat_template:
            raise InputError(f"tokenizer {self.tokenizer.name_or_path} has no chat template; ask without chat")
        try:
            return str(self.tokenizer.get_chat_template())
        except ValueError as error:
            raise InputError(f"tokenizer {self.tokenizer.name_or_path}: {_first_line(error)}") from error

    @property
    def reads_date(self) -> bool:
        """Whether the text depends on the day."""
        return CLOCK in self.source

    def settings(self) -> dict[str, Any]:
        """All that shapes the text besides the messages, as plain values."""
        told: dict[str, Any] = {"chat_template": hash_text(self.source)}
        if self.variables:
            told["chat_template_kwargs"] = dict(self.variables)
        if self.reads_date:
            told["date"] = self.date
        return told

    def prompt(self, messages: Messages) -> str:
        """The text that makes the model answer `messages`.

        Raises:
            InputError: there is no template, or it refuses the messages.
        """
        return self._render(messages, answer=True)

    def conversation(self, messages: Messages) -> str:
        """The text of a whole conversation.

        Raises:
            InputError: see `prompt`.
        """
        return self._render(messages, answer=False)

    def today(self) -> str:
        """Today's date by the clock that templates read."""
        return str(self.tokenizer.apply_chat_template(
            [{"role": "user", "content": ""}], chat_template="{{ strftime_now('%Y-%m-%d') }}", tokenize=False
        ))  # fmt: skip

    def _render(self, messages: Messages, *, answer: bool) -> str:
        """The text, in which all that the user says must be found.

        A template for images and text reads no plain text, and leaves it out in silence: it is given parts.
        """
        refusal = None
        for given in (_plain, _in_parts):
            try:
                text = self._written([given(message) for message in messages], answer=answer)
            except InputError as error:
                refusal = refusal or error
                continue
            if all(message["content"].strip() in text for message in messages if message["role"] == "user"):
                return text
        raise refusal or InputError(
            "the model's chat template leaves out or rewrites what the user says; use another template, or ask "
            "without chat"
        )

    def _written(self, messages: Sequence[Mapping[str, Any]], *, answer: bool) -> str:
        from jinja2 import TemplateError, TemplateSyntaxError

        source, variables = self.source, dict(self.variables)
        if self.date is not None and self.reads_date:
            source, variables["jmedllm_clock"] = _FIXED_CLOCK + source, _clock(self.date)
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    list(messages),
                    chat_template=source,
                    tokenize=False,
                    add_generation_prompt=answer,
                    **variables,
                )
            )
        except TemplateSyntaxError as error:
            raise _broken(error) from error
        except (TemplateError, *_REFUSALS) as error:
            raise InputError(f"the model's chat template refuses this conversation: {_first_line(error)}") from error

    def require_variables(self) -> None:
        """Check that the template reads the variables that it is given: one that it does not read changes nothing.

        Raises:
            InputError: it does not; the nearest that it reads are named.
        """
        words = _words(self.source)
        for name in self.variables:
            if name in RESERVED:
                raise InputError(f"chat_template_kwargs: {name} is set by jmedllm itself; leave it out")
            if name not in words:
                raise unknown("variable of the model's chat template in chat_template_kwargs", name, words)


def _plain(message: Mapping[str, str]) -> dict[str, Any]:
    return dict(message)


def _in_parts(message: Mapping[str, str]) -> dict[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def turn_end(template: ChatTemplate) -> TurnEnd:
    """How the template ends a turn of the assistant, found by what it writes behind one."""
    turns = [{"role": "user", "content": _ASKED}, {"role": "assistant", "content": _STAND_IN}]
    if not template.tokenizer.chat_template:
        return TurnEnd()
    try:
        closing = template.conversation(turns).rpartition(_STAND_IN)[2]
    except InputError:  # a template for single questions: what would end an answer, it does not say
        return TurnEnd()
    if (found := _first_marker(template.tokenizer, closing)) is not None:
        return TurnEnd(closing[: found[0]], found[1])
    try:
        going_on = template.conversation([*turns, turns[0]]).rpartition(_STAND_IN)[2]
    except InputError:
        going_on = ""
    following = _first_marker(template.tokenizer, going_on)
    return TurnEnd(closing.rstrip(), following[1] if following else None, closing.strip())


def _first_marker(tokenizer: Tokenizer, text: str) -> tuple[int, int] | None:
    """Where the first marker token in a text ends, and its id; of two that begin together the longer one.

    A marker must also be found by the tokenizer: one that it normalizes is not, behind a dummy prefix.
    """
    tokens = set(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else set()
    found = [
        (text.index(marker.content), -len(marker.content), token)
        for token, marker in tokenizer.added_tokens_decoder.items()
        if token in tokens and marker.content.strip() and marker.content in text
    ]
    if not found:
        return None
    start, negative, token = min(found)
    return start - negative, token


def _clock(date: str) -> dict[str, str]:
    """What each directive of strftime says at the beginning of a day."""
    day = datetime.fromisoformat(date)
    directives = [f"%{flag}{letter}" for flag in ("-", "") for letter in string.ascii_letters]
    return {directive: day.strftime(directive) for directive in directives} | {"%%": "%"}


def _words(source: str) -> set[str]:
    """All names in a template, besides jinja's own words; its variables are among them."""
    from jinja2 import Environment, TemplateSyntaxError

    try:
        tokens = list(Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True).lex(source))
    except TemplateSyntaxError as error:
        raise _broken(error) from error
    return {value for _, kind, value in tokens if kind == "name"} - _JINJA


def _broken(error: "TemplateSyntaxError") -> InputError:
    return InputError(f"the model's chat template is broken: line {error.lineno}: {error.message}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
