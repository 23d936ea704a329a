"""Training samples from documents and from prompt-answer pairs, encoded as the exam encodes them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from jmedllm.corpus.documents import Document
from jmedllm.errors import InputError
from jmedllm.models.tokenizer.encoding import Tokenizer, encode, encode_continuations
from jmedllm.training.packing import Sample

_BATCH = 256


def document_samples(tokenizer: Tokenizer, documents: Iterable[Document]) -> Iterator[Sample]:
    """Each document with its EOS; every token but the first is trained."""
    batch: list[Document] = []
    for document in documents:
        batch.append(document)
        if len(batch) == _BATCH:
            yield from _document_batch(tokenizer, batch)
            batch = []
    yield from _document_batch(tokenizer, batch)


def _document_batch(tokenizer: Tokenizer, documents: Sequence[Document]) -> Iterator[Sample]:
    encoded = encode(tokenizer, [document.text for document in documents])
    for document, ids in zip(documents, encoded, strict=True):
        if ids:
            yield Sample(document.id, [*ids, tokenizer.eos_token_id], [False] + [True] * len(ids))


def example_sample(tokenizer: Tokenizer, name: str, prompt: str, answer: str, closing: str = "") -> Sample:
    """A prompt with its answer and how that ends; only answer and end are trained.

    Args:
        closing: what the chat template writes behind an answer, where the prompt goes through it; EOS follows, if
            it is not that.
    """
    shared, [rest] = encode_continuations(tokenizer, prompt, [answer + closing])
    end = [tokenizer.eos_token_id] if not closing or rest[-1:] != [tokenizer.eos_token_id] else []
    return Sample(name, [*shared, *rest, *end], [False] * len(shared) + [True] * len([*rest, *end]))


@dataclass(frozen=True, slots=True)
class Limits:
    """Most tokens of an example; None where there is no limit.

    Attributes:
        source: tokens that are not trained, which is the prompt.
        target: tokens that are trained, which is the answer with its EOS.
        block: both together: an example is never cut.
    """

    source: int | None
    target: int | None
    block: int

    def excess(self, sample: Sample) -> str | None:
        """What is too long about a sample, in words; None where nothing is."""
        target = sum(sample.trained)
        told = (
            ("prompt", len(sample.ids) - target, "max_prompt_tokens", self.source),
            ("answer", target, "max_completion_tokens", self.target),
            ("prompt and answer", len(sample.ids), "block_size", self.block),
        )
        for what, tokens, setting, most in told:
            if most is not None and tokens > most:
                return f"{what} of {tokens:,} tokens, more than {setting} {most:,}"
        return None


ExcessLength = Literal["raise", "drop"]


def within(samples: Iterable[Sample], limits: Limits, excess_length_strategy: ExcessLength) -> list[Sample]:
    """The samples within the limits, in their order.

    Raises:
        InputError: one is not, and `excess_length_strategy` is "raise" (it is named); or none is.
    """
    kept, excess = [], ""
    for sample in samples:
        found = limits.excess(sample)
        if found is None:
            kept.append(sample)
            continue
        excess = f"example {sample.name}: {found}"
        if excess_length_strategy == "raise":
            raise InputError(f"{excess}; raise it, leave the example out, or set excess_length_strategy: drop")
    if excess and not kept:
        raise InputError(f"{excess}; every example is too long: raise the limits")
    return kept


def pieces(sample: Sample, block_size: int) -> Iterator[Sample]:
    """A document in parts that fit into a row, cut as pretraining cuts it: a part begins with the last token
    of the one before, so that each token but the document's first is predicted once."""
    for start in range(0, len(sample.ids) - 1, block_size - 1):
        part = slice(start, start + block_size)
        yield Sample(sample.name, sample.ids[part], [False, *sample.trained[part][1:]])
