"""Choose next tokens from logits. What a row draws depends on its own seed and position only."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import torch

from jmedllm.models.backends.base import Decoding


def next_tokens(
    decoding: Decoding, logits: torch.Tensor, rows: Sequence[Sequence[int]], draws: Sequence[float]
) -> list[int]:
    """Choose the next token of each row.

    Args:
        decoding: how tokens are chosen.
        logits: [rows, vocabulary].
        rows: tokens of the prompt and the reply so far.
        draws: a random number in [0, 1) for each row; not used at temperature 0.
    """
    if decoding.repetition_penalty != 1.0:
        from transformers import RepetitionPenaltyLogitsProcessor

        penalize = RepetitionPenaltyLogitsProcessor(decoding.repetition_penalty)
        logits = penalize(_distinct(rows, logits.device), logits.float())
    if decoding.temperature == 0.0:
        return [int(token) for token in logits.argmax(-1).tolist()]
    logits = logits.float()
    if not decoding.top_k:
        return _drawn(warped(decoding, logits), draws)
    ids = _likeliest(logits / decoding.temperature, decoding.top_k)
    places = _drawn(warped(decoding, logits.gather(1, ids)), draws)
    return [int(row[place]) for row, place in zip(ids.tolist(), places, strict=True)]


def warped(decoding: Decoding, logits: torch.Tensor) -> torch.Tensor:
    """Apply temperature, top_k, top_p and min_p in the order of transformers' `generate`; -inf for tokens left out."""
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    warpers: list[Any] = [TemperatureLogitsWarper(decoding.temperature)]
    if decoding.top_k:
        warpers.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p < 1.0:
        warpers.append(TopPLogitsWarper(decoding.top_p))
    if decoding.min_p:
        warpers.append(MinPLogitsWarper(decoding.min_p))
    for warper in warpers:
        logits = warper(None, logits)
    return logits


def draw(seed: int, position: int) -> float:
    """Return the random number in [0, 1) of a completion at a position.

    It is a hash, not the next number of a generator: a row that is computed again draws the same, wherever it is.
    """
    digest = blake2b(f"{seed} {position}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def _drawn(scores: torch.Tensor, draws: Sequence[float]) -> list[int]:
    """Return the first token at which the cumulative probability exceeds the draw.

    Tokens keep their order in the vocabulary, and sums are in float64: rounding of the logits moves a border between
    two tokens by no more than itself.
    """
    cumulative = scores.double().softmax(-1).cumsum(-1)
    wanted = torch.tensor(draws, dtype=torch.float64, device=scores.device)[:, None] * cumulative[:, -1:]
    return [int(token) for token in torch.searchsorted(cumulative, wanted, right=True)[:, 0].tolist()]


def _likeliest(scores: torch.Tensor, top_k: int) -> torch.Tensor:
    """Return the tokens [rows, at least top_k] that top_k may keep, in the order of the vocabulary.

    The steps after it are as fast as if the vocabulary were this small. Tokens as likely as the last one are kept.
    """
    last = scores.topk(min(top_k, scores.shape[1])).values[:, -1:]
    return scores.topk(int((scores >= last).sum(-1).max())).indices.sort(-1).values


def _distinct(rows: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Return the tokens of each row once, filled up with its last one: the penalty takes a token once or more."""
    found = [list(dict.fromkeys(row)) for row in rows]
    width = max(map(len, found))
    return torch.tensor([ids + ids[-1:] * (width - len(ids)) for ids in found], device=device)
