"""What a proof asks of a served model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from jmedllm.deploy.endpoint import Endpoint

Message = Mapping[str, str]

Listed = Sequence[tuple[int | str, float]]
"""The next tokens, by id or, for a server that shows none, by text, with their log-probabilities; likeliest first."""


class UnseenError(Exception):
    """The server's interface does not show something; the text says what it shows instead, or why."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as text without BOS, which servers add, and as token ids with it."""

    text: str
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Written:
    """A greedy answer.

    Attributes:
        text: the answer without special tokens.
        ids: its token ids; None for a server that does not show them.
        ended: whether an end token ended it, not the limit.
    """

    text: str
    ids: tuple[int, ...] | None
    ended: bool


@dataclass(frozen=True, slots=True)
class Served:
    """A model on a server, which each interface asks in its own way.

    Attributes:
        endpoint: where the server answers.
        model: name of the model there.
        title: name and version of the server.
        takes_ids: whether prompts are token ids; otherwise they are text.
    """

    endpoint: Endpoint
    model: str
    title: str
    takes_ids: bool = False

    @property
    def url(self) -> str:
        """Address of the server."""
        return self.endpoint.url


class Interface(Protocol):
    """The interface of a served model. A method raises `UnseenError` for what the interface does not show."""

    @property
    def title(self) -> str:
        """Name and version of the server."""
        ...

    @property
    def url(self) -> str:
        """Its address."""
        ...

    @property
    def takes_ids(self) -> bool:
        """Whether prompts are token ids; otherwise they are text."""
        ...

    def token_ids(self, text: str) -> list[int]:
        """Return the ids of a text, with BOS if the model's texts begin with it."""
        ...

    def chat(self, messages: Sequence[Message]) -> str | list[int] | None:
        """Return a chat as the server renders it for the model, as text or as ids; None if it has no template."""
        ...

    def stops_at(self, token: int, spelled: str, prompt: Prompt) -> bool:
        """Return whether an answer ends at this token, whose text is `spelled`."""
        ...

    def listed(self, prompts: Sequence[Prompt]) -> list[Listed]:
        """Return the most likely tokens after each prompt."""
        ...

    def written(self, prompt: Prompt, tokens: int) -> Written:
        """Return the greedy answer of at most `tokens` tokens."""
        ...
