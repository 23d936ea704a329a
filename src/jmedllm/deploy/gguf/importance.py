"""Importance matrix: how strongly each column of a matrix is used on real text.

Quantization below 8 bits rounds so that the columns with large inputs get the smallest errors.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from jmedllm.deploy.gguf.tensors import text_name
from jmedllm.progress import notice

TOKENS = 12_000
"""Number of tokens that are read; more change little."""

Importance = Mapping[str, "np.ndarray[Any, Any]"]
"""Mean square of the inputs, [columns] float32, by the name of the weight in transformers; of stacked experts
[experts, columns]."""


@torch.no_grad()
def importance_matrix(network: Any, sequences: Iterable[Sequence[int]]) -> dict[str, "np.ndarray[Any, Any]"]:
    """Compute the mean square of the inputs of each matrix, for each expert on the tokens that it gets.

    Args:
        network: the model in float32.
        sequences: token ids of texts; the first `TOKENS` are read.
    """
    network.set_experts_implementation("eager")  # one product for each expert
    inputs = _Inputs({text_name(name): weight for name, weight in network.named_parameters() if weight.dim() > 1})
    left = TOKENS
    with inputs:
        for ids in sequences:
            if left <= 0:
                break
            network(input_ids=torch.tensor([list(ids[:left])]), use_cache=False)
            left -= len(ids)
    return inputs.means()


class _Inputs(TorchFunctionMode):
    """Sums the squares of what is multiplied with weights.

    Args:
        weights: matrices, or stacked matrices of experts, by name.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self._names = {
            each.data_ptr(): (name, number)
            for name, weight in weights.items()
            for number, each in enumerate(weight if weight.dim() == 3 else [weight])
        }
        self._experts = {name: len(weight) if weight.dim() == 3 else 0 for name, weight in weights.items()}
        self._sums: dict[tuple[str, int], torch.Tensor] = {}
        self._counts: dict[tuple[str, int], int] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Add up the first operand of a product with a known weight."""
        if function in _PRODUCTS and (key := self._names.get(args[1].data_ptr())) is not None:
            rows = args[0].detach().reshape(-1, args[0].shape[-1]).double()
            self._sums[key] = self._sums.get(key, 0) + rows.square().sum(0)
            self._counts[key] = self._counts.get(key, 0) + len(rows)
        return function(*args, **(kwargs or {}))

    def means(self) -> dict[str, "np.ndarray[Any, Any]"]:
        """Return the mean squares; an expert without a token gets the mean of the others, with a notice."""
        found = {key: total / self._counts[key] for key, total in self._sums.items()}
        result = {name: mean.float().numpy() for (name, _), mean in found.items() if not self._experts[name]}
        unread = 0
        for name, count in self._experts.items():
            read = [mean for (each, _), mean in found.items() if each == name]
            if count and read:
                unread += count - len(read)
                usual = torch.stack(read).mean(0)
                result[name] = torch.stack([found.get((name, at), usual) for at in range(count)]).float().numpy()
        if unread:
            notice(f"gguf: {unread} matrices of experts got no token of the text; they get the mean importance")
        return result


_PRODUCTS = (torch.nn.functional.linear, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.matmul)


def columns(importance: Importance, target: str, name: str) -> "np.ndarray[Any, Any] | None":
    """Return the importance of the columns of a tensor, or None.

    Args:
        importance: see `importance_matrix`.
        target: llama.cpp's name of the tensor.
        name: its name in transformers' files.
    """
    if (expert := _EXPERTS.fullmatch(target)) is None:
        return importance.get(name)
    part = "down_proj" if expert[2] == "down" else "gate_up_proj"
    return importance.get(f"model.layers.{expert[1]}.mlp.experts.{part}")


_EXPERTS = re.compile(r"blk\.(\d+)\.ffn_(gate|up|down)_exps\.weight")
