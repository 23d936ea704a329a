"""Bits per byte on texts that are never trained on.

A text's bits are the sum of -log2 p(token | what stands before it) over all its tokens but the first, before
which nothing stands; its bytes are those of its UTF-8 behind the characters of that token. Where the tokenizer
begins with a BOS, that is the first token and every byte counts. Bits per byte of a set are all bits over all
bytes. Unlike a loss per token it compares across tokenizers and languages (as Gao et al. 2020 use it for the
Pile, arXiv 2101.00027, section 3.1).

A text longer than a window is read in windows that share one token: each token is predicted once, by what its
window holds before it. The end of a text is not predicted.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jmedllm.errors import InputError
from jmedllm.models.tokenizer.encoding import Tokenizer, encode
from jmedllm.precision import Precision
from jmedllm.processes import summed
from jmedllm.training.batches import autocast, evaluating
from jmedllm.training.distributed import share_of_step
from jmedllm.training.early_stopping import ACCURACY, BITS
from jmedllm.training.loss import summed_loss
from jmedllm.training.packing import Blocks, Sample, pack_examples

Quiz = Callable[[Any], dict[str, float]]
"""Called with the network; gives the accuracy of each paper of a small exam."""


@dataclass(frozen=True, slots=True)
class TextSet:
    """Held-out texts, ready to be read.

    Attributes:
        blocks: their windows, packed; every token of a window but its first is trained, that is, predicted.
        documents: how many texts.
        bytes: UTF-8 bytes that the predicted tokens spell.
    """

    blocks: Blocks
    documents: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the loop measures.

    Attributes:
        sets: texts by name, such as ja, en, general.
        tasks: names of the papers of the small exam.
        quiz: sits them; None where there are none.
    """

    sets: Mapping[str, TextSet]
    tasks: tuple[str, ...] = ()
    quiz: Quiz | None = None

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of all that is measured, such as bits_per_byte.ja and accuracy.igakuqa.ja."""
        return (*(f"{BITS}.{name}" for name in self.sets), *(f"{ACCURACY}.{name}" for name in self.tasks))

    def census(self) -> dict[str, dict[str, int]]:
        """Number of texts and bytes of each set."""
        return {name: {"documents": each.documents, "bytes": each.bytes} for name, each in self.sets.items()}


def text_set(tokenizer: Tokenizer, name: str, texts: Sequence[str], window: int) -> TextSet:
    """Lay texts into rows of `window` tokens.

    Raises:
        InputError: no text has more than one token.
    """
    encoded = encode(tokenizer, texts)
    kept = [(text, ids) for text, ids in zip(texts, encoded, strict=True) if len(ids) > 1]
    if not kept:
        raise InputError(f"evaluation texts {name}: none is long enough to be measured; give more text")
    samples = [
        Sample(f"{name} {number}", part, [False] + [True] * (len(part) - 1))
        for number, (_, ids) in enumerate(kept)
        for part in windows(ids, window)
    ]
    total = sum(len(text.encode()) - first_bytes(tokenizer, text, ids[0]) for text, ids in kept)
    return TextSet(pack_examples(samples, window, tokenizer.pad_token_id), len(kept), total)


def windows(ids: Sequence[int], size: int) -> list[Sequence[int]]:
    """Parts of at most `size` tokens, each beginning with the token that the one before it ends with."""
    return [ids[start : start + size] for start in range(0, len(ids) - 1, size - 1)]


def first_bytes(tokenizer: Tokenizer, text: str, first: int) -> int:
    """UTF-8 bytes of the characters that the first token of `text` reaches into; 0 for a BOS."""
    if first == tokenizer.bos_token_id:
        return 0
    [offsets] = tokenizer([text[:1000]], add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return len(text[: offsets[0][1]].encode())


def bits_per_byte(network: Any, texts: TextSet, precision: Precision, micro_batch_size: int) -> float:
    """Bits per byte of one set, read without dropout.

    Raises:
        InputError: they are not finite.
    """
    nats = 0.0
    with evaluating(network), autocast(precision):
        for batch in share_of_step(texts.blocks, np.arange(len(texts.blocks)), micro_batch_size, precision.device):
            nats += summed_loss(network, *batch).item()
    if not math.isfinite(nats):
        raise InputError("bits per byte are no longer finite; lower learning_rate or use precision float32")
    return summed(nats) / math.log(2) / texts.bytes


def measure(network: Any, evaluation: Evaluation, precision: Precision, micro_batch_size: int) -> dict[str, Any]:
    """All that an evaluation measures, as its line in `evaluations.jsonl` keeps it."""
    bits = {name: bits_per_byte(network, each, precision, micro_batch_size) for name, each in evaluation.sets.items()}
    if evaluation.quiz is None:
        return {BITS: bits}
    with evaluating(network):
        return {BITS: bits, ACCURACY: evaluation.quiz(network)}
