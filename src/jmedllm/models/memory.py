"""How much can be read and written at once in the memory that is free."""

from dataclasses import dataclass
from typing import Any

import psutil
import torch


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """Bytes that one token takes, by arithmetic from a model's config.

    Attributes:
        reading: in a forward pass without gradients, with its logits and its keys and values.
        keeping: keys and values of all layers.
    """

    reading: int
    keeping: int


def token_bytes(config: Any, dtype: torch.dtype) -> TokenBytes:
    """Bytes of a token for a transformer of this config that computes in `dtype`.

    Reading counts what lives at once in a gated layer: hidden states, their norm, queries and the sums around
    them (8 widths), gate, up and product (3 feed-forward widths).
    """
    text = config.get_text_config()
    hidden, heads = text.hidden_size, getattr(text, "num_attention_heads", None) or 1
    width = getattr(text, "head_dim", None) or hidden // heads
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None) or 4 * hidden
    inner = max(inner) if isinstance(inner, list) else inner
    kept = 2 * text.num_hidden_layers * (getattr(text, "num_key_value_heads", None) or heads) * width
    return TokenBytes((8 * hidden + 3 * inner + text.vocab_size + kept) * dtype.itemsize, kept * dtype.itemsize)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device; what torch holds without using it counts as free."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return int(psutil.virtual_memory().available)
