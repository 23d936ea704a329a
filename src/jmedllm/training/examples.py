"""Training samples from documents, prompt-answer pairs and conversations, encoded like prompts in evaluation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from jmedllm.corpus.documents import Document
from jmedllm.errors import InputError
from jmedllm.models.tokenizer.encoding import Tokenizer, encode, encode_pairs
from jmedllm.training.packing import TrainingSample
from jmedllm.training.turns import Messages, TrainingChat, conversation_turns

_BATCH = 256


def document_samples(tokenizer: Tokenizer, documents: Iterable[Document]) -> Iterator[TrainingSample]:
    """Yield each document with its EOS; every token except the first is trained."""
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH:
            yield from _document_batch(tokenizer, batch)
            batch = []
    yield from _document_batch(tokenizer, batch)


def _document_batch(tokenizer: Tokenizer, documents: Sequence[Document]) -> Iterator[TrainingSample]:
    encoded = encode(tokenizer, [document.text for document in documents])
    for document, ids in zip(documents, encoded, strict=True):
        if ids:
            yield TrainingSample(document.id, [*ids, tokenizer.eos_token_id], [False] + [True] * len(ids))


def example_sample(tokenizer: Tokenizer, name: str, prompt: str, answer: str, closing: str = "") -> TrainingSample:
    """Encode a prompt with its answer and the end of the answer; only answer and end are trained.

    Spaces at the end of the prompt are trained, because an evaluation leaves them out, see `Request.text`.

    Args:
        closing: text that the chat template writes after an answer, for chat prompts; EOS follows unless it already
            ends with EOS.
    """
    return next(example_samples(tokenizer, [(name, prompt, answer)], closing))


def example_samples(
    tokenizer: Tokenizer, examples: Iterable[tuple[str, str, str]], closing: str = ""
) -> Iterator[TrainingSample]:
    """Yield `example_sample` of each name, prompt and answer; encoding many at once is faster."""
    left = iter(examples)
    while batch := list(islice(left, _BATCH)):
        encoded = _encode_pairs(tokenizer, [(prompt, answer) for _, prompt, answer in batch], closing)
        for (name, _, _), (shared, rest) in zip(batch, encoded, strict=True):
            yield _sample(tokenizer, name, [*shared, *rest], [len(shared)], is_closed=bool(closing))


def conversation_samples(chat: TrainingChat, name: str, messages: Messages) -> list[TrainingSample]:
    """Encode the assistant's turns of a conversation like `example_samples`, each after the prompt of an evaluation.

    Turns share a sample if the ids of one, with its end, begin the ids of the next. Otherwise the template writes the
    turn differently once others follow, for example without its thought, and it gets a sample of its own.

    Raises:
        InputError: see `conversation_turns`.
    """
    turns, closing = conversation_turns(chat, name, messages), chat.closing
    encoded = _encode_pairs(chat.template.tokenizer, turns, closing)
    ids = [[*shared, *rest] for shared, rest in encoded]
    samples: list[TrainingSample] = []
    borders: list[int] = []
    for (shared, _), whole, following in zip(encoded, ids, [*ids[1:], []], strict=True):
        borders.append(len(shared))
        if closing and following[: len(whole)] == whole:
            borders.append(len(whole))
            continue
        samples.append(_sample(chat.template.tokenizer, name, whole, borders, is_closed=bool(closing)))
        borders = []
    return samples


def _encode_pairs(
    tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]], closing: str
) -> list[tuple[list[int], list[int]]]:
    """Return, for each prompt and answer, the ids of the prompt as an evaluation gives it, and those that follow."""
    asked = [prompt.rstrip(" ") for prompt, _ in pairs]
    return encode_pairs(
        tokenizer,
        [(text, prompt[len(text) :] + answer + closing) for text, (prompt, answer) in zip(asked, pairs, strict=True)],
    )


def _sample(
    tokenizer: Tokenizer, name: str, ids: Sequence[int], borders: Sequence[int], *, is_closed: bool
) -> TrainingSample:
    """Build a sample; EOS follows unless the text ends with a closing that is EOS.

    Args:
        borders: positions at which the mask changes; it begins with tokens that are not trained.
    """
    eos = tokenizer.eos_token_id
    ids = list(ids) if is_closed and ids[-1:] == [eos] else [*ids, eos]
    loss_mask: list[bool] = []
    for place, end in enumerate([*borders, len(ids)]):
        loss_mask += [place % 2 == 1] * (end - len(loss_mask))
    return TrainingSample(name, ids, loss_mask)


@dataclass(frozen=True, slots=True)
class LengthLimits:
    """Maximum numbers of tokens of an example; None disables a limit.

    Attributes:
        source: untrained tokens, which are the prompt.
        target: trained tokens, which are the answer with its EOS.
        block: both together, because an example is never split.
    """

    source: int | None
    target: int | None
    block: int

    @property
    def least(self) -> int:
        """Number of tokens up to which an example is certainly within all limits."""
        return min(most for most in (self.source, self.target, self.block) if most is not None)

    def excess(self, sample: TrainingSample) -> str | None:
        """Describe the exceeded limit of a sample; None if it is within all limits."""
        target = sum(sample.loss_mask)
        checks = (
            ("prompt", len(sample.ids) - target, "max_prompt_tokens", self.source),
            ("answer", target, "max_completion_tokens", self.target),
            ("prompt and answer", len(sample.ids), "block_size", self.block),
        )
        for what, tokens, setting, most in checks:
            if most is not None and tokens > most:
                return f"{what} of {tokens:,} tokens, more than {setting} {most:,}"
        return None


ExcessLength = Literal["raise", "drop"]


def filter_by_length(
    samples: Iterable[TrainingSample], limits: LengthLimits, excess_length_strategy: ExcessLength
) -> Iterator[TrainingSample]:
    """Yield the samples within the limits, in their order.

    Raises:
        InputError: one exceeds a limit and `excess_length_strategy` is "raise" (the message names it), or all do.
    """
    kept, excess = 0, ""
    for sample in samples:
        found = limits.excess(sample)
        if found is None:
            kept += 1
            yield sample
            continue
        excess = f"example {sample.name}: {found}"
        if excess_length_strategy == "raise":
            raise InputError(f"{excess}; raise it, leave the example out, or set excess_length_strategy: drop")
    if excess and not kept:
        raise InputError(f"{excess}; every example is too long: raise the limits")


def split_document(sample: TrainingSample, block_size: int) -> Iterator[TrainingSample]:
    """Split a document into parts that fit into a row, as in pretraining.

    Each part starts with the last token of the previous one, so each token except the document's first is predicted
    once.
    """
    for start in range(0, len(sample.ids) - 1, block_size - 1):
        part = slice(start, start + block_size)
        yield TrainingSample(sample.name, sample.ids[part], [False, *sample.loss_mask[part][1:]])
