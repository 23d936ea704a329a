"""Compute in transformers with the precision of ggml, so that only errors of the conversion remain."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch

from jmedllm.deploy.gguf.rope import is_rounded


class _TabulatedGelu(torch.nn.Module):
    """GELU as ggml computes it on a CPU: from a table of float16 numbers."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the activations in float32."""
        x = values.half().float()
        found = (0.5 * x * (1 + torch.tanh(0.79788456080286535588 * x * (1 + 0.044715 * x * x)))).half().float()
        return torch.where(values <= -_TABLE_END, 0.0, torch.where(values >= _TABLE_END, values, found))


_TABLE_END = 10.0


@contextmanager
def rounding_as_ggml(network: Any) -> Iterator[bool]:
    """Round a network's GELU and YaRN as ggml does until the block ends, and provide whether it has GELU.

    Small models with GELU differ by 2e-8 nats per token otherwise. What remains, 1e-9, are inputs that the two round
    to different numbers of the table.
    """
    from transformers.activations import GELUTanh

    owners = [
        (module, name, child)
        for module in network.modules()
        for name, child in module.named_children()
        if isinstance(child, GELUTanh)
    ]
    frequencies = [(module, module.inv_freq) for module in network.modules() if _rounds_positions(module)]
    for module, name, _ in owners:
        setattr(module, name, _TabulatedGelu())
    for module, _ in frequencies:
        module.inv_freq = _rounded_frequencies(module.config)
    try:
        yield bool(owners)
    finally:
        for module, name, child in owners:
            setattr(module, name, child)
        for module, exact in frequencies:
            module.inv_freq = exact


def _rounds_positions(module: Any) -> bool:
    return hasattr(module, "inv_freq") and hasattr(module, "config") and is_rounded(module.config)


def _rounded_frequencies(config: Any) -> torch.Tensor:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    rounded = deepcopy(config)
    rounded.rope_parameters = {**config.rope_parameters, "truncate": True}
    found: torch.Tensor = ROPE_INIT_FUNCTIONS["yarn"](rounded, torch.device("cpu"))[0]
    return found
