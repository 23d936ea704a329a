"""Memory per token and free memory of a device, for choosing batch sizes."""

from dataclasses import dataclass
from typing import Any

import psutil
import torch


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """Memory of one token in bytes, estimated from a model's config.

    Attributes:
        forward_bytes: memory in a forward pass without gradients, including logits, keys and values.
        cache_bytes: memory of the keys and values of all layers.
    """

    forward_bytes: int
    cache_bytes: int


def token_bytes(config: Any, dtype: torch.dtype) -> TokenBytes:
    """Estimate the memory of a token for a transformer of this config that computes in `dtype`.

    `forward_bytes` counts the tensors of a gated layer that exist at the same time: hidden states, their norm,
    queries and residual sums (8 hidden sizes), gate, up and product (3 feed-forward sizes).
    """
    text = config.get_text_config()
    hidden, heads = text.hidden_size, getattr(text, "num_attention_heads", None) or 1
    width = getattr(text, "head_dim", None) or hidden // heads
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * hidden
    inner = max(inner) if isinstance(inner, list) else inner
    kept = 2 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * width
    return TokenBytes((8 * hidden + 3 * inner + text.vocab_size + kept) * dtype.itemsize, kept * dtype.itemsize)


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a device, including memory that torch has reserved but does not use."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return int(psutil.virtual_memory().available)
