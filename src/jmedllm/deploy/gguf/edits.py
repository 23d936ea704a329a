"""Changes of tensors from transformers' form to llama.cpp's. They work on values and, for shapes alone, on `meta`."""

from collections.abc import Callable
from typing import Any

import torch

Edit = Callable[[torch.Tensor, Any], torch.Tensor]
"""Returns a tensor as llama.cpp expects it, given a tensor and the model's configuration."""


def unchanged(weight: torch.Tensor, _: Any) -> torch.Tensor:
    """Return the tensor; for those that only have another name."""
    return weight


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorder the rows of a projection so that the two halves of each head alternate.

    Args:
        weight: [heads * head_size, ...]; a matrix or a bias.
        heads: number of heads.
    """
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)


def query_interleaved(weight: torch.Tensor, config: Any) -> torch.Tensor:
    """`interleaved` for queries."""
    return interleaved(weight, config.num_attention_heads)


def key_interleaved(weight: torch.Tensor, config: Any) -> torch.Tensor:
    """`interleaved` for keys."""
    return interleaved(weight, config.num_key_value_heads or config.num_attention_heads)


def plus_one(weight: torch.Tensor, _: Any) -> torch.Tensor:
    """Return the factor of a norm that stores its difference from 1; in float32, as transformers adds it."""
    return weight.float() + 1


def first_half(weight: torch.Tensor, config: Any) -> torch.Tensor:
    """Return the gates of stacked [experts, gates and ups, hidden size], which some files store transposed."""
    upright = weight if weight.shape[2] == config.hidden_size else weight.mT
    return upright[:, : upright.shape[1] // 2]


def second_half(weight: torch.Tensor, config: Any) -> torch.Tensor:
    """Return the ups of stacked [experts, gates and ups, hidden size], which some files store transposed."""
    upright = weight if weight.shape[2] == config.hidden_size else weight.mT
    return upright[:, upright.shape[1] // 2 :]


def upright_down(weight: torch.Tensor, config: Any) -> torch.Tensor:
    """Return [experts, hidden size, columns], which some files store transposed."""
    return weight if weight.shape[1] == config.hidden_size else weight.mT


def even(weight: torch.Tensor, _: Any) -> torch.Tensor:
    """Return the gates of [experts, columns, alternating gates and ups] or of their biases [experts, ...]."""
    return weight[..., ::2].mT if weight.dim() == 3 else weight[..., ::2]


def odd(weight: torch.Tensor, _: Any) -> torch.Tensor:
    """Return the ups of [experts, columns, alternating gates and ups] or of their biases [experts, ...]."""
    return weight[..., 1::2].mT if weight.dim() == 3 else weight[..., 1::2]


def transposed(weight: torch.Tensor, _: Any) -> torch.Tensor:
    """Return [experts, rows, columns] of [experts, columns, rows]."""
    return weight.mT


def decay(weight: torch.Tensor, config: Any) -> torch.Tensor:
    """Return -exp(A) of a delta rule's A_log [value heads]."""
    return tiled(-weight.float().exp(), config)


def kernel(weight: torch.Tensor, config: Any) -> torch.Tensor:
    """Return [channels, width] of a convolution's [channels, 1, width]; channels are queries, keys and values."""
    return mixed(weight.squeeze(1), config)


def mixed(weight: torch.Tensor, config: Any) -> torch.Tensor:
    """`tiled` for the values below queries and keys, [2 * key heads * key size + value heads * value size, ...]."""
    keys = 2 * config.linear_num_key_heads * config.linear_key_head_dim
    return torch.cat([weight[:keys], tiled(weight[keys:], config)])


def tiled(weight: torch.Tensor, config: Any) -> torch.Tensor:
    """Reorder rows of value heads: the first of each key head, then the second of each, as ggml repeats keys.

    Args:
        weight: [value heads * size, ...], in which the value heads of a key head are neighbours.
        config: the model's configuration.
    """
    keys, values = config.linear_num_key_heads, config.linear_num_value_heads
    heads = weight.reshape(keys, values // keys, weight.shape[0] // values, *weight.shape[1:])
    return heads.transpose(0, 1).reshape(weight.shape)


def tiled_columns(weight: torch.Tensor, config: Any) -> torch.Tensor:
    """`tiled` for columns."""
    return tiled(weight.mT, config).mT
