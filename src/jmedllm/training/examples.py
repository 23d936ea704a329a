"""Training samples from documents and from prompt-answer pairs, encoded as the exam encodes them."""

from collections.abc import Iterable, Iterator, Sequence

from jmedllm.corpus.pack import Sample
from jmedllm.corpus.read import Document
from jmedllm.models.encoding import Tokenizer, encode, encode_continuations

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


def example_sample(tokenizer: Tokenizer, name: str, prompt: str, answer: str) -> Sample:
    """A prompt with its answer and EOS; only answer and EOS are trained."""
    shared, [rest] = encode_continuations(tokenizer, prompt, [answer])
    return Sample(
        name,
        [*shared, *rest, tokenizer.eos_token_id],
        [False] * len(shared) + [True] * (len(rest) + 1),
    )
