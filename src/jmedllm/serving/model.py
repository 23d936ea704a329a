"""What the server needs of a model, whatever runs it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from jmedllm.errors import InputError

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. The defaults are greedy, as in an evaluation.

    Attributes:
        max_tokens: largest number of new tokens.
        temperature: 0 for the most likely token.
        top_p: smallest set of tokens with this probability.
        top_k: number of tokens to choose from; 0 for all.
        min_p: smallest probability, as a share of that of the most likely token.
        repetition_penalty: divisor of the logits of tokens that occurred before; 1 for none.
        seed: seed of the choice; None for a random one.
        top_logprobs: number of most likely tokens to report at each position; None for no log-probabilities.
        visible: special tokens whose text is part of the answer, such as the markers of a thought.
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    top_logprobs: int | None = None
    visible: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token and its log-probability.

    Attributes:
        id: id of the token.
        bytes: its UTF-8 bytes, which can be a part of a character.
        logprob: its log-probability in nats, before any sampling setting.
    """

    id: int
    bytes: bytes
    logprob: float


@dataclass(frozen=True, slots=True)
class Listed:
    """A generated token with its alternatives.

    Attributes:
        token: the generated token.
        top: the most likely tokens at its position, as many as `Sampling.top_logprobs`.
    """

    token: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer.

    Attributes:
        text: its text, without incomplete characters.
        tokens: number of tokens that it consists of; the token that ends an answer is counted and has no text.
        listed: its tokens with log-probabilities, if they were requested.
        finish_reason: for the last piece, `stop` at a token that ends an answer, or `length` at `max_tokens`.
    """

    text: str
    tokens: int = 1
    listed: tuple[Listed, ...] = ()
    finish_reason: FinishReason | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """What a model's files say.

    Attributes:
        template: the Jinja chat template; None if there is none.
        special: texts of special tokens by the names that templates use, such as `bos_token`.
        control: texts of all special tokens, which generated text does not show.
        ends: ids of the tokens that end an answer.
        fingerprint: SHA-256 of the model's file; None for a model of several files.
        vocabulary: number of token ids that the model reads; None if unknown.
    """

    template: str | None
    special: Mapping[str, str] = field(default_factory=dict)
    control: frozenset[str] = frozenset()
    ends: tuple[int, ...] = ()
    fingerprint: str | None = None
    vocabulary: int | None = None


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Settings of a server that its backend reads.

    Attributes:
        name: name of the model in requests; None for that of its file or directory.
        backend: name of the backend; None for the first that suits the model.
        slots: number of answers at the same time.
        context: number of tokens of a prompt and its answer; None for the model's own, up to `CONTEXT`.
        threads: number of threads on a CPU; None for the number of cores.
        trust: whether to load a file whose checksum is not known here.
        report: prints a line for the person who runs the server.
    """

    name: str | None = None
    backend: str | None = None
    slots: int = 2
    context: int | None = None
    threads: int | None = None
    trust: bool = False
    report: Callable[[str], None] = print


CONTEXT = 8192
"""Largest default context in tokens; memory grows with it."""


def context_of(options: ServeOptions, trained: int | None, model: Path) -> int:
    """Return the number of tokens of a prompt and its answer.

    Args:
        options: the settings.
        trained: number of tokens that the model was made for; None if unknown.
        model: the model, for the message.

    Raises:
        InputError: the settings ask for more than the model was made for.
    """
    if options.context is None:
        return min(trained or CONTEXT, CONTEXT)
    if trained is not None and options.context > trained:
        raise InputError(f"{model}: --context {options.context:,} exceeds the {trained:,} tokens of the model")
    return options.context


class Unavailable(Exception):  # noqa: N818 - a state of the server rather than a fault of the caller
    """The model cannot answer now. The message is one line; the server returns it with the status 503."""


class ServedModel(Protocol):
    """A loaded model."""

    @property
    def name(self) -> str:
        """Name in requests."""
        ...

    @property
    def backend(self) -> str:
        """What runs it, such as `llama.cpp`."""
        ...

    @property
    def context(self) -> int:
        """Number of tokens of a prompt and its answer."""
        ...

    @property
    def slots(self) -> int:
        """Number of answers at the same time."""
        ...

    @property
    def format(self) -> Format:
        """See `Format`."""
        ...

    @property
    def failed(self) -> asyncio.Event:
        """Set when the model cannot answer anymore."""
        ...

    async def tokenize(self, text: str, *, add_special: bool = False) -> list[int]:
        """Return the token ids of a text. Special tokens in it are recognized.

        Args:
            text: the text.
            add_special: whether to add what begins every text of the model, such as BOS; templates write it.
        """
        ...

    def generate(self, ids: Sequence[int], sampling: Sampling) -> AsyncGenerator[Piece, None]:
        """Continue a prompt of token ids. Closing the iterator ends the work at once.

        Raises:
            Unavailable: the model cannot answer now, or failed during the answer.
        """
        ...

    async def score(self, ids: Sequence[int], continuations: Sequence[Sequence[int]]) -> list[float]:
        """Return the log-probability of each continuation of a prompt, in nats, summed over its tokens.

        Raises:
            Unavailable: see `generate`.
        """
        ...

    async def close(self) -> None:
        """Unload the model."""
        ...
