"""Chunked cross-entropy, which never stores all logits at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from jmedllm.models.layers import decoder_of
from jmedllm.training.distributed import in_forward
from jmedllm.training.isolation import PackedRows, hidden_states

CHUNK = 256
"""Rows of logits in a chunk. With a vocabulary of 152k a chunk is 0.15 GiB in float32; larger ones are not faster."""


@dataclass(frozen=True, slots=True)
class Head:
    """The output head of a causal model.

    Attributes:
        layer: maps hidden states [..., H] to scores [..., V].
        changes: what the architecture does to the scores, in order.
    """

    layer: torch.nn.Module
    changes: Sequence[Callable[[torch.Tensor], torch.Tensor]] = ()

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Compute the logits [..., V] of hidden states [..., H]."""
        logits: torch.Tensor = self.layer(rows)
        for change in self.changes:
            logits = change(logits)
        return logits


def summed_loss(network: Any, ids: torch.Tensor, positions: torch.Tensor, loss_mask: torch.Tensor) -> torch.Tensor:
    """Compute the sum over trained tokens of -log p(token | preceding tokens of its sample), in nats.

    Only hidden states that predict a trained token pass through the head, `CHUNK` at a time. Their gradients are
    computed immediately, so no logits are kept for the backward pass. The result supports one backward pass.

    Args:
        network: a Hugging Face causal model, or a PEFT model around one.
        ids: [B, T] token ids.
        positions: [B, T], restarting with each sample, which the decoder isolates as `isolation.isolate` chose.
        loss_mask: [B, T], true where the token is a target.
    """
    return in_forward(network, _summed_loss, ids, positions, loss_mask)


def _summed_loss(network: Any, ids: torch.Tensor, positions: torch.Tensor, loss_mask: torch.Tensor) -> torch.Tensor:
    decoder, head = split(network)
    hidden = hidden_states(decoder, PackedRows(ids, positions))
    predicts = loss_mask[:, 1:]
    return chunked_loss(head, hidden[:, :-1][predicts], ids[:, 1:][predicts])


def chunked_loss(head: Head, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the sum of -log p(target) of targets [N] from hidden states [N, H], `CHUNK` at a time."""
    if not torch.is_grad_enabled():
        return torch.stack([_loss_of(head, *part) for part in _chunks(rows, targets)]).sum()
    trained = [parameter for parameter in head.layer.parameters() if parameter.requires_grad]
    total: torch.Tensor = _ChunkedLoss.apply(head, targets, rows, *trained)  # type: ignore[no-untyped-call]
    return total


class _ChunkedLoss(torch.autograd.Function):
    """Computes the gradients of each chunk in the forward pass, so that its logits are computed only once.

    docs/training/loss-and-accumulation.md compares this with recomputing the logits in the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, head: Head, targets: torch.Tensor, rows: torch.Tensor, *trained: torch.Tensor
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


def _loss_of(head: Head, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(head(rows).float(), targets, reduction="sum")


LOGIT_CHANGES: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "logit_scale": torch.mul,  # Cohere
    "lm_head_multiplier": torch.mul,  # Falcon H1
    "logits_scaling": torch.div,  # Granite
    "final_logit_softcapping": lambda logits, cap: cap * torch.tanh(logits / cap),  # Gemma (arXiv 2408.00118)
}
"""What architectures do to the scores of the head, by the key of their configuration."""


def split(network: Any) -> tuple[Any, Head]:
    """Return the decoder and the output head of a causal model, with or without an adapter."""
    config = network.config.get_text_config()
    values = {name: getattr(config, name, None) for name in LOGIT_CHANGES}
    changes = [partial(_change, name, value) for name, value in values.items() if value is not None]
    return decoder_of(network), Head(network.get_output_embeddings(), changes)


def _change(name: str, value: float, logits: torch.Tensor) -> torch.Tensor:
    return LOGIT_CHANGES[name](logits, value)
