"""Importance matrix: how strongly each column of a matrix is used on real text.

Quantization below 8 bits rounds so that the columns with large inputs get the smallest errors.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

TOKENS = 12_000
"""Number of tokens that are read; more change little."""

Importance = Mapping[str, "np.ndarray[Any, Any]"]
"""Mean square of the inputs, [columns] float32, by the name of the weight in transformers."""


@torch.no_grad()
def importance_matrix(network: Any, sequences: Iterable[Sequence[int]]) -> dict[str, "np.ndarray[Any, Any]"]:
    """Compute the mean square of the inputs of each linear layer.

    Args:
        network: the model in float32.
        sequences: token ids of texts; the first `TOKENS` are read.
    """
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}

    def hook(name: str) -> Any:
        def add(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            rows = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).double()
            sums[name] = sums.get(name, torch.zeros(rows.shape[-1], dtype=torch.float64)) + rows.square().sum(0)
            counts[name] = counts.get(name, 0) + len(rows)

        return add

    layers = {name: each for name, each in network.named_modules() if isinstance(each, torch.nn.Linear)}
    handles = [layer.register_forward_pre_hook(hook(f"{name}.weight")) for name, layer in layers.items()]
    left = TOKENS
    try:
        for ids in sequences:
            if left <= 0:
                break
            network(input_ids=torch.tensor([list(ids[:left])]), use_cache=False)
            left -= len(ids)
    finally:
        for handle in handles:
            handle.remove()
    return {name: (total / counts[name]).float().numpy() for name, total in sums.items()}
