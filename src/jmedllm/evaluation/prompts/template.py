"""A Jinja template that renders a question as one prompt block."""

import traceback
from dataclasses import dataclass
from functools import cache
from typing import Literal

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError
from jinja2.meta import find_undeclared_variables

from jmedllm.errors import InputError
from jmedllm.evaluation.question import Question, label
from jmedllm.models.sandbox import BoundedEnvironment, limited

_FAILURES = (
    ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError,
)  # fmt: skip
"""Exceptions, besides jinja's own, in which an expression of a template may fail; all are faults of the template."""

AnswerForm = Literal["text", "letter"]
"""How the prompt asks for an answer: as the choice's text or its letter. Questions without choices ask for a number or
for free text."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """A Jinja text that ends where the model's answer begins.

    Attributes:
        origin: where the text comes from, for error messages.
        source: the Jinja text.
    """

    origin: str
    source: str


def _environment() -> BoundedEnvironment:
    # Sandboxed because a pack may come from anywhere. A template that reads an unset variable fails.
    return BoundedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True
    )


@cache
def reads(template: PromptTemplate) -> frozenset[str]:
    """Return the variables that `template` reads; without `answer_as` it can only ask for the choice's text.

    Raises:
        InputError: the Jinja syntax is broken.
    """
    try:
        return frozenset(find_undeclared_variables(_environment().parse(template.source)))
    except TemplateSyntaxError as error:
        raise _broken(template, error.lineno, error) from error
    except RecursionError as error:
        raise _broken(template, None, error) from error


def fill(template: PromptTemplate, question: Question, answer_as: AnswerForm) -> str:
    """Render `question` as one block that ends where the answer begins.

    The template may read `stem`, `choices`, `letters` (one beside each choice), `select`, `answer_as`, `free_text`
    (whether the question asks for an answer in free text) and `instruction`, which is empty for questions.

    Raises:
        InputError: the template fails on this question; the message names the file and line.
    """
    return _render(
        template,
        stem=question.stem,
        choices=question.choices,
        letters=tuple(label(index) for index in range(len(question.choices))),
        select=question.select,
        answer_as=answer_as,
        free_text=question.is_free_text,
        instruction="",
    )


def fill_instruction(template: PromptTemplate, instruction: str, text: str) -> str:
    """Render instruction data as one block; `text` is the input of the instruction and may be empty.

    Raises:
        InputError: the template has no place for instructions, or it fails; the message names the file.
    """
    if "instruction" not in reads(template):
        raise InputError(f"{template.origin}: has no place for instruction data; use the variable `instruction` in it")
    return _render(
        template,
        stem=text,
        choices=(),
        letters=(),
        select=1,
        answer_as="text",
        free_text=True,
        instruction=instruction,
    )


def _render(template: PromptTemplate, **values: object) -> str:
    try:
        return limited(f"{template.origin}: the prompt template", lambda: _compiled(template).render(values))
    except (TemplateError, *_FAILURES) as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "<template>"]
        raise _broken(template, lines[-1] if lines else None, error) from error


@cache
def _compiled(template: PromptTemplate) -> Template:
    return _environment().from_string(template.source)


def _broken(template: PromptTemplate, line: int | None, error: Exception) -> InputError:
    place = template.origin if line is None else f"{template.origin}:{line}"
    return InputError(f"{place}: the prompt template fails: {error}; fix the template")
