"""Anything that completes or scores text, behind one small Protocol."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt put to a model, with what is wanted of it.

    Attributes:
        id: names the item in messages.
        group: requests of one group begin alike; a model may compute what they share once.
        choices: texts whose likelihood after the prompt is wanted.
        labels: short labels whose likelihood as the very next token is wanted; not together with `choices`.
        write: whether a completion is wanted.
    """

    id: str
    prompt: str
    group: str = ""
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    write: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """Greedy continuation of one prompt.

    Attributes:
        text: the new tokens, decoded without special tokens.
        decoded: prompt and new tokens decoded together, which is what the published protocol reads.
        truncated: whether the token limit ended it.
    """

    text: str
    decoded: str
    truncated: bool = False


def never(_: Completion) -> bool:
    """Whether a part of a completion is enough, where only the whole is."""
    return False


@dataclass(frozen=True, slots=True)
class Writing:
    """How completions end.

    Attributes:
        max_new_tokens: longest completion.
        is_final: whether what was written so far is all that is needed; asked at line ends only. An engine that
            cannot be asked on the way stops at the first line end and begins anew, unless it is `never`.
    """

    max_new_tokens: int
    is_final: Callable[[Completion], bool] = never


@dataclass(frozen=True, slots=True)
class Response:
    """What a model gave for one request; None where it was not asked for.

    Attributes:
        log_probs: natural log-probability of each choice (sum over its tokens) or of each label, see `labels` for
            those that an engine does not tell; None also if it tells none.
    """

    completion: Completion | None = None
    log_probs: tuple[float, ...] | None = None


class Model(Protocol):
    """What the exam needs of a model."""

    @property
    def name(self) -> str:
        """Short name for reports."""
        ...

    def answer(self, requests: Sequence[Request], writing: Writing) -> Iterator[tuple[int, Response]]:
        """Responses with the index of their request, in any order, as they come."""
        ...
