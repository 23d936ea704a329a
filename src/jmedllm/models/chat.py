"""Chat templates: render messages as text, and find the end of an assistant turn.

Training, evaluation and planning all use this module, so the same messages become the same text everywhere.
"""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from jmedllm.errors import InputError, unknown
from jmedllm.files import hash_text
from jmedllm.models.chat_text import broken, first_line, render
from jmedllm.models.sandbox import TemplateLimitError
from jmedllm.models.tokenizer.encoding import Tokenizer

Message = dict[str, Any]
"""A chat message: `role`, and `content` as text or as a list of parts of the type `text` or `image`."""

Messages = Sequence[Mapping[str, Any]]

ChatText = Callable[[list[Message]], str]
"""Formats messages as the prompt that a model continues with its answer."""

CLOCK = "strftime_now"
"""Name of the function with which templates read today's date."""

_FIXED_CLOCK = (
    "{%- macro strftime_now(format) -%}{%- set out = namespace(text=format) -%}"
    "{%- for directive, value in jmedllm_clock.items() -%}"
    "{%- set out.text = out.text | replace(directive, value) -%}{%- endfor -%}{{- out.text -}}"
    "{%- endmacro %}\n"
)
"""Put before a template to give it a fixed clock. It is a macro because transformers passes only plain values to
templates. `trim_blocks` removes its line feed, so the template starts on a line of its own."""

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

THOUGHT_PARTS = "parts"
"""Where a thought is a part of the content, of the type `thinking`, instead of a key of the message."""

THOUGHT_KEYS = ("reasoning_content", "thinking", "reasoning", THOUGHT_PARTS)
"""Where templates look for the thought of a message."""

IMAGE = "image"
"""Type of the part of a message that stands for a picture."""

_FUNCTIONS = {CLOCK, "raise_exception", "range", "namespace", "dict", "joiner", "cycler", "lipsum"}
_GENERATION_TAG = re.compile(r"{%-?\s*(?:end)?generation\s*-?%}")
"""A tag of transformers for masks of the assistant's tokens, which jinja alone does not know."""

_ANSWER, _QUESTION, _SYSTEM = "\ue000", "\ue001", "\ue002"
"""Private characters, which no template contains."""


def with_pictures(text: str, count: int) -> list[dict[str, str]]:
    """Return the content of a message that shows pictures and then a text."""
    return [*({"type": IMAGE} for _ in range(count)), {"type": "text", "text": text}]


def text_in(message: Mapping[str, Any]) -> str:
    """Return the text of a message."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def with_system(messages: Messages, system: str) -> list[Message]:
    """Return messages that begin with a system message; in front of their own, if they have one."""
    if system and messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": f"{system}\n{text_in(messages[0])}"}, *map(dict, messages[1:])]
    return [*([{"role": "system", "content": system}] if system else []), *map(dict, messages)]


def with_thought(message: Message, thought: str, key: str) -> Message:
    """Return a message with a thought where a template looks for it, see `THOUGHT_KEYS`."""
    if key != THOUGHT_PARTS:
        return message | {key: thought}
    parts = [{"type": "thinking", "thinking": thought}, {"type": "text", "text": message["content"]}]
    return message | {"content": parts}


def no_template(messages: list[Message]) -> str:
    """Used if there is no chat template.

    Raises:
        InputError: always.
    """
    raise InputError("this model was opened without its chat template; use prompts without chat")


def plain_text(messages: list[Message]) -> str:
    """Join the texts of messages with line feeds, in place of a chat template."""
    return "\n".join(map(text_in, messages))


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """Text that a template writes after an assistant message.

    Attributes:
        text: up to and including the first marker token; a line feed after that belongs to no turn. Without a
            marker all of it except white space at the end, which may be nothing.
        token: id of the marker. If the template ends no turn with a marker, the marker that begins the next turn;
            None if there is none at all.
        words: `text` if it contains no marker.
    """

    text: str = ""
    token: int | None = None
    words: str = ""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A tokenizer's chat template with everything that shapes its text besides the messages.

    Attributes:
        variables: values for the template's own variables, such as {"enable_thinking": False}.
        date: the date that the template reads as today's, as YYYY-MM-DD; None for the real one.
        system: text of the system message; in front of the one that the messages begin with, if they do.
        closing: text after the generation prompt.
    """

    tokenizer: Tokenizer
    variables: Mapping[str, Any] = field(default_factory=dict)
    date: str | None = None
    system: str = ""
    closing: str = ""

    @property
    def source(self) -> str:
        """Return the template, or the default one if the tokenizer has several.

        Raises:
            InputError: there is none.
        """
        if not self.tokenizer.chat_template:
            raise InputError(f"tokenizer {self.tokenizer.name_or_path} has no chat template; use prompts without chat")
        try:
            return str(self.tokenizer.get_chat_template())
        except ValueError as error:
            raise InputError(f"tokenizer {self.tokenizer.name_or_path}: {first_line(error)}") from error

    @property
    def reads_date(self) -> bool:
        """Whether the text depends on the date."""
        return CLOCK in self.source

    def settings(self) -> dict[str, Any]:
        """Return everything that shapes the text besides the messages, as plain values."""
        settings: dict[str, Any] = {"chat_template": hash_text(self.source)}
        if self.variables:
            settings["template_args"] = dict(self.variables)
        if self.reads_date:
            settings["date"] = self.date
        if self.system:
            settings["system"] = self.system
        if self.closing:
            settings["prompt_closing"] = self.closing
        return settings

    def prompt(self, messages: Messages) -> str:
        """Render `messages` as a prompt.

        Raises:
            TemplateLimitError: the template takes too long, or produces too much.
            InputError: there is no template, or it raises an error for the messages.
        """
        return self._render(messages, answer=True) + self.closing

    def conversation(self, messages: Messages) -> str:
        """Render a whole conversation.

        Raises:
            InputError: see `prompt`.
        """
        return self._render(messages, answer=False)

    def as_given(self, messages: Messages) -> str:
        """Render `messages` as a prompt without any check of the text.

        Raises:
            InputError: see `prompt`.
        """
        return self._written(messages, answer=True)

    def today(self) -> str:
        """Return today's date as templates read it."""
        return render("{{ strftime_now('%Y-%m-%d') }}", [], {})

    def _render(self, messages: Messages, *, answer: bool) -> str:
        """Render the messages, and check that the text contains every user message.

        A template for images and text silently omits plain text, so it gets the content as a list of parts.
        """
        refusal = None
        messages = with_system(messages, self.system)
        for given in (_plain, _in_parts):
            try:
                text = self._written([given(message) for message in messages], answer=answer)
            except TemplateLimitError:
                raise
            except InputError as error:
                refusal = refusal or error
                continue
            if all(text_in(message).strip() in text for message in messages if message["role"] == "user"):
                return text
        raise refusal or InputError(
            "the model's chat template leaves out or rewrites what the user says; use another template, or ask "
            "without chat"
        )

    def _written(self, messages: Sequence[Mapping[str, Any]], *, answer: bool) -> str:
        source, variables = self.source, dict(self.variables)
        if self.date is not None and self.reads_date:
            source, variables["jmedllm_clock"] = _FIXED_CLOCK + source, _clock(self.date)
        return render(source, messages, self.tokenizer.special_tokens_map, variables, answer=answer)

    def require_variables(self) -> None:
        """Check that the template reads the given variables: a variable that it does not read has no effect.

        Raises:
            InputError: it does not read one; the message suggests the nearest.
        """
        words = _words(self.source)
        for name in self.variables:
            if name in RESERVED:
                raise InputError(f"template_args: {name} is set by jmedllm itself; leave it out")
            if name not in words:
                raise unknown("variable of the model's chat template in template_args", name, words)


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    return dict(message)


def _in_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message["content"]
    return {**message, "content": [{"type": "text", "text": content}] if isinstance(content, str) else content}


def with_needed_system(template: ChatTemplate) -> ChatTemplate:
    """Return a template for questions about it: with a system message if it refuses a conversation without one."""
    asked = [{"role": "user", "content": _QUESTION}]
    for each in (template, replace(template, system=template.system or _SYSTEM)):
        try:
            each.prompt(asked)
        except TemplateLimitError:
            raise
        except InputError:
            continue
        return each
    return template


def turn_end(template: ChatTemplate) -> TurnEnd:
    """Find how the template ends an assistant turn, from the text that it writes after one."""
    turns = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    if not template.tokenizer.chat_template:
        return TurnEnd()
    template = with_needed_system(template)
    try:
        closing = template.conversation(turns).rpartition(_ANSWER)[2]
    except TemplateLimitError:
        raise
    except InputError:  # a template for single questions does not reveal how it ends an answer
        return TurnEnd()
    if (found := _first_marker(template.tokenizer, closing)) is not None:
        return TurnEnd(closing[: found[0]], found[1])
    try:
        continued = template.conversation([*turns, turns[0]]).rpartition(_ANSWER)[2]
    except TemplateLimitError:
        raise
    except InputError:
        continued = ""
    following = _first_marker(template.tokenizer, continued)
    return TurnEnd(closing.rstrip(), following[1] if following else None, closing.strip())


def _first_marker(tokenizer: Tokenizer, text: str) -> tuple[int, int] | None:
    """Return end position and id of the first marker token in a text; the longer one if two start together.

    The tokenizer must find the marker as well: it does not find one that it normalizes after a dummy prefix.
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
    """Return the value of each strftime directive at the start of a day."""
    day = datetime.fromisoformat(date)
    directives = [f"%{flag}{letter}" for flag in ("-", "") for letter in string.ascii_letters]
    return {directive: day.strftime(directive) for directive in directives} | {"%%": "%"}


def _words(source: str) -> set[str]:
    """Return all names in a template except Jinja keywords; they include its variables."""
    from jinja2 import Environment, TemplateSyntaxError

    try:
        tokens = list(Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True).lex(source))
    except TemplateSyntaxError as error:
        raise broken(error) from error
    return {value for _, kind, value in tokens if kind == "name"} - _JINJA


def undeclared_variables(source: str) -> set[str]:
    """Return the variables that a template reads and does not set, without those that transformers sets."""
    from jinja2 import Environment, TemplateSyntaxError, meta

    environment = Environment(extensions=["jinja2.ext.loopcontrols"], autoescape=True)
    try:
        read = meta.find_undeclared_variables(environment.parse(_GENERATION_TAG.sub("", source)))
    except TemplateSyntaxError as error:
        raise broken(error) from error
    except RecursionError:
        raise InputError("the model's chat template nests its expressions too deeply; use another template") from None
    return {name for name in read if name not in RESERVED | _FUNCTIONS and not name.endswith("_token")}
