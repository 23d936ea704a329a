"""Anything that completes or scores text, behind one small Protocol."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt put to a model; `choices` are the continuations whose likelihood is asked for."""

    id: str
    prompt: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """Greedy continuation of one prompt.

    Attributes:
        text: the new tokens, decoded without special tokens.
        decoded: prompt and new tokens decoded together, which is what the published protocol reads.
    """

    text: str
    decoded: str


class Model(Protocol):
    """What the exam needs of a model. Both methods answer in the order of the requests."""

    @property
    def name(self) -> str:
        """Short name for reports."""
        ...

    def chat_text(self, messages: list[dict[str, str]]) -> str:
        """The text that makes this model answer `messages`, by its own chat template."""
        ...

    def score(self, requests: Sequence[Request]) -> list[tuple[float, ...]]:
        """Sum of natural log-probabilities of each choice's tokens after the prompt, per request."""
        ...

    def complete(
        self, requests: Sequence[Request], max_new_tokens: int, is_final: Callable[[Completion], bool]
    ) -> list[Completion]:
        """Greedy completions; a row may stop early once `is_final(what it wrote so far)` holds."""
        ...
