"""Chunked cross-entropy: never keeps all logits at once."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from jmedllm.training.distributed import in_forward

CHUNK = 256
"""Rows of logits that exist at once. At 152k words a chunk is 0.15 GiB in fp32; larger ones are not faster."""


def summed_loss(network: Any, ids: torch.Tensor, positions: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
    """Sum over trained tokens of -log p(token | preceding tokens of its sample), in nats.

    Only hidden states that predict a trained token go through the head, `CHUNK` at a time; their gradients are
    computed immediately, so that no logits are kept for the backward pass. The result supports one backward pass.

    Args:
        network: a Hugging Face causal model, or a PEFT model around one.
        ids: [B, T] token ids.
        positions: [B, T], restarting with each sample; that alone keeps samples apart: an attention
            mask or a cache given beside them would let them see one another.
        trained: [B, T] whether the token is a target.
    """
    return in_forward(network, _summed_loss, ids, positions, trained)


def _summed_loss(network: Any, ids: torch.Tensor, positions: torch.Tensor, trained: torch.Tensor) -> torch.Tensor:
    decoder, head = split(network)
    hidden = decoder(input_ids=ids, position_ids=positions, attention_mask=None, use_cache=False).last_hidden_state
    predicts = trained[:, 1:]
    return chunked_loss(head, hidden[:, :-1][predicts], ids[:, 1:][predicts])


def chunked_loss(head: torch.nn.Module, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Sum of -log p(target) by hidden states [N, H] that predict targets [N], `CHUNK` at a time."""
    if not torch.is_grad_enabled():
        return torch.stack([_loss_of(head, *part) for part in _chunks(rows, targets)]).sum()
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    total: torch.Tensor = _ChunkedLoss.apply(head, targets, rows, *trained)  # type: ignore[no-untyped-call]
    return total


class _ChunkedLoss(torch.autograd.Function):
    """Takes the gradients of each chunk as soon as its logits are there, so that these are made but once.

    Measured beside computing them again in the backward pass: docs/training/loss-and-accumulation.md.
    """

    @staticmethod
    def forward(
        ctx: Any, head: torch.nn.Module, targets: torch.Tensor, rows: torch.Tensor, *trained: torch.Tensor
    ) -> torch.Tensor:
        total = rows.new_zeros((), dtype=torch.float32)
        # In float32: added up in bfloat16, the chunks of a long row would lose what is small.
        of_rows, of_trained = [], [torch.zeros_like(each, dtype=torch.float32) for each in trained]
        for part, wanted in _chunks(rows, targets):
            with torch.enable_grad():
                part = part.detach().requires_grad_()
                loss = _loss_of(head, part, wanted)
                first, *others = torch.autograd.grad(loss, [part, *trained])
            of_rows.append(first)
            for added in of_trained:
                added += others.pop(0)  # gone before the next chunk's are made: they are as large as the head
            total += loss.detach()
        ctx.save_for_backward(torch.cat(of_rows), *of_trained)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, *(each.mul_(gradients[0]) for each in ctx.saved_tensors)


def _chunks(rows: torch.Tensor, targets: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    # Without a target one empty chunk still leads back through head and decoder, as other processes may need.
    for start in range(0, max(1, len(rows)), CHUNK):
        yield rows[start : start + CHUNK], targets[start : start + CHUNK]


def _loss_of(head: torch.nn.Module, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(head(rows).float(), targets, reduction="sum")


def split(network: Any) -> tuple[Any, Any]:
    """Decoder and output head of a causal model, with or without an adapter around it."""
    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    return base.get_decoder(), base.get_output_embeddings()
