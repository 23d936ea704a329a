"""Compare listed predictions and answers of a server with those of the model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from jmedllm.deploy.servers.base import Listed, Written
from jmedllm.models.tokenizer.encoding import Tokenizer

_LEAST = 1e-6
"""Smallest probability that a list leaves to the rest: rounding of the listed ones is about as large."""

_MASKED = -100.0
"""Log-probabilities below are of tokens that the server excludes."""


@dataclass(frozen=True, slots=True)
class ListedParity:
    """Agreement of the next-token predictions of a model and a server that lists the most likely ones.

    Attributes:
        kl: mean KL divergence in nats of the listed tokens and one bucket for all others, a lower bound of that of
            the vocabulary.
        top1: share of positions with the same most likely token, as far as its text identifies it.
        positions: number of positions.
        listed: mean number of listed tokens that are known by id.
    """

    kl: float
    top1: float
    positions: int
    listed: float


def divergence_of_listed(expected: torch.Tensor, listed: Mapping[int, float]) -> float:
    """Return KL(expected || served) in nats of the listed tokens and one bucket for all others.

    Merging outcomes never raises a KL divergence, so this is a lower bound of that of the vocabulary.

    Args:
        expected: log-probabilities [vocabulary] in double precision.
        listed: the server's log-probabilities, by id.
    """
    ids = [token for token, value in listed.items() if value > _MASKED]
    served = torch.tensor([listed[token] for token in ids], dtype=torch.float64)
    model = expected[ids]
    rest, left = 1.0 - model.exp().sum(), 1.0 - served.exp().sum()
    found = (model.exp() * (model - served)).sum()
    if rest > _LEAST:
        found += rest * (rest / left.clamp(min=_LEAST)).log()
    return float(found.clamp(min=0.0))


def ids_of_texts(tokenizer: Tokenizer, size: int) -> dict[str, int]:
    """Return the ids of the tokens whose text no other token has.

    A token is decoded after another one, because alone some tokenizers drop its space.
    """
    [before] = tokenizer("a", add_special_tokens=False)["input_ids"][:1]
    start = len(tokenizer.decode([before]))
    count = min(size, len(tokenizer))
    texts = [text[start:] for text in tokenizer.batch_decode([[before, token] for token in range(count)])]
    seen: dict[str, int] = {}
    for text in texts:
        seen[text] = seen.get(text, 0) + 1
    return {text: token for token, text in enumerate(texts) if seen[text] == 1 and text and "\ufffd" not in text}


def known(listed: Listed, ids: Mapping[str, int]) -> dict[int, float]:
    """Return the log-probabilities of the listed tokens that are known by id."""
    found = {(ids.get(token, -1) if isinstance(token, str) else token): value for token, value in listed}
    found.pop(-1, None)
    return found


def listed_parity(expected: Sequence[torch.Tensor], listed: Sequence[Listed], ids: Mapping[str, int]) -> ListedParity:
    """Compare predictions [vocabulary] at some positions with a server's lists."""
    divergences, tops, sizes = [], [], []
    for model, each in zip(expected, listed, strict=True):
        served = known(each, ids)
        sizes.append(len(served))
        divergences.append(divergence_of_listed(model, served))
        first = next(iter(known(each[:1], ids)), None)
        likeliest = int(model.argmax())
        tops.append(likeliest not in served if first is None else likeliest == first)
    count = len(tops)
    return ListedParity(sum(divergences) / count, sum(tops) / count, count, sum(sizes) / count)


@torch.no_grad()
def greedy_answers(
    network: Any, prompts: Sequence[Sequence[int]], ends: Sequence[int], tokens: int
) -> Iterator[list[int]]:
    """Yield the model's greedy answers, with the end token if one is written."""
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=tokens, do_sample=False, eos_token_id=list(ends), pad_token_id=ends[0])
    for ids in prompts:
        given = torch.tensor([ids])
        written = network.generate(given, attention_mask=torch.ones_like(given), generation_config=config)
        yield written[0, len(ids) :].tolist()


def is_same_answer(expected: Sequence[int], written: Written, ends: Sequence[int], tokenizer: Tokenizer) -> bool:
    """Return whether two answers are the same up to their end: by token ids, or by text if the server shows none."""
    if written.ids is not None:
        return _without_end(expected, ends) == _without_end(written.ids, ends)
    return _text(expected, ends, tokenizer) == written.text.rstrip("\ufffd")


def continues(expected: Sequence[int], written: Written, ends: Sequence[int], tokenizer: Tokenizer) -> bool:
    """Return whether the server writes on where the model ends its answer."""
    if expected[-1] not in ends or written.ended:
        return False
    if written.ids is not None:
        return tuple(written.ids[: len(expected)]) == tuple(expected) and len(written.ids) > len(expected)
    return written.text.startswith(_text(expected, ends, tokenizer))


def _text(ids: Sequence[int], ends: Sequence[int], tokenizer: Tokenizer) -> str:
    return str(tokenizer.decode(_without_end(ids, ends), skip_special_tokens=True)).rstrip("\ufffd")


def _without_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    length = next((at for at, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:length])
