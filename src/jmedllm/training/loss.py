"""Chunked cross-entropy, which never stores all logits at once."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from jmedllm.models.layers import decoder_of
from jmedllm.training.distributed import in_forward

CHUNK = 256
"""Rows of logits in a chunk. With a vocabulary of 152k a chunk is 0.15 GiB in float32; larger ones are not faster."""


def summed_loss(network: Any, ids: torch.Tensor, positions: torch.Tensor, loss_mask: torch.Tensor) -> torch.Tensor:
    """Compute the sum over trained tokens of -log p(token | preceding tokens of its sample), in nats.

    Only hidden states that predict a trained token pass through the head, `CHUNK` at a time. Their gradients are
    computed immediately, so no logits are kept for the backward pass. The result supports one backward pass.

    Args:
        network: a Hugging Face causal model, or a PEFT model around one.
        ids: [B, T] token ids.
        positions: [B, T], restarting with each sample. Samples are isolated by the positions alone; with an attention
            mask or a cache they would attend to one another.
        loss_mask: [B, T], true where the token is a target.
    """
    return in_forward(network, _summed_loss, ids, positions, loss_mask)


def _summed_loss(network: Any, ids: torch.Tensor, positions: torch.Tensor, loss_mask: torch.Tensor) -> torch.Tensor:
    decoder, head = split(network)
    hidden = decoder(input_ids=ids, position_ids=positions, attention_mask=None, use_cache=False).last_hidden_state
    predicts = loss_mask[:, 1:]
    return chunked_loss(head, hidden[:, :-1][predicts], ids[:, 1:][predicts])


def chunked_loss(head: torch.nn.Module, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the sum of -log p(target) of targets [N] from hidden states [N, H], `CHUNK` at a time."""
    if not torch.is_grad_enabled():
        return torch.stack([_loss_of(head, *part) for part in _chunks(rows, targets)]).sum()
    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    total: torch.Tensor = _ChunkedLoss.apply(head, targets, rows, *trained)  # type: ignore[no-untyped-call]
    return total


class _ChunkedLoss(torch.autograd.Function):
    """Computes the gradients of each chunk in the forward pass, so that its logits are computed only once.

    docs/training/loss-and-accumulation.md compares this with recomputing the logits in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, head: torch.nn.Module, targets: torch.Tensor, rows: torch.Tensor, *trained: torch.Tensor
    ) -> torch.Tensor:
        total = rows.new_zeros((), dtype=torch.float32)
        # Accumulate in float32: in bfloat16, small contributions of a long row would be lost.
        of_rows, of_trained = [], [torch.zeros_like(each, dtype=torch.float32) for each in trained]
        for part, wanted in _chunks(rows, targets):
            with torch.enable_grad():
                part = part.detach().requires_grad_()
                loss = _loss_of(head, part, wanted)
                first, *others = torch.autograd.grad(loss, [part, *trained])
            of_rows.append(first)
            for added in of_trained:
                added += others.pop(0)  # free it before the next chunk: it is as large as the head
            total += loss.detach()
        ctx.save_for_backward(torch.cat(of_rows), *of_trained)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return None, None, *(each.mul_(gradients[0]) for each in ctx.saved_tensors)


def _chunks(rows: torch.Tensor, targets: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    # Without a target, one empty chunk still connects head and decoder to the graph, which other processes may need.
    for start in range(0, max(1, len(rows)), CHUNK):
        yield rows[start : start + CHUNK], targets[start : start + CHUNK]


def _loss_of(head: torch.nn.Module, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(head(rows).float(), targets, reduction="sum")


def split(network: Any) -> tuple[Any, Any]:
    """Return the decoder and the output head of a causal model, with or without an adapter."""
    return decoder_of(network), network.get_output_embeddings()
