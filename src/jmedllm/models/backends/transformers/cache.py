"""Key-value cache for generation that appends in place, grows in blocks, and lets rows leave and join."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer


@dataclass(frozen=True, slots=True)
class PromptKeys:
    """Keys and values of a prompt.

    Attributes:
        cache: the cache that contains them.
        row: row of the cache.
        columns: columns of the prompt's tokens.
    """

    cache: Any
    row: int
    columns: list[int]


class PreallocatedCacheLayer(DynamicLayer):  # type: ignore[misc]  # mypy does not read transformers
    """A cache layer that appends in place; `DynamicLayer` copies all tokens at every step.

    `keys` and `values` are views of the first `length` tokens of two tensors [rows, heads, capacity, width].
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, length: int) -> None:
        super().__init__()
        self.whole_keys, self.whole_values, self.length = keys, values, length
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._show()

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the newest tokens; return all."""
        start, self.length = self.length, self.length + key_states.shape[2]
        self.whole_keys[:, :, start : self.length] = key_states
        self.whole_values[:, :, start : self.length] = value_states
        return self._show()

    def _show(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = self.whole_keys[:, :, : self.length], self.whole_values[:, :, : self.length]
        return self.keys, self.values


def join(cache: Any, kept: Sequence[int], added: Sequence[PromptKeys], width: int, room: int) -> Any:
    """Join rows of a cache with further prompts, left-padded to `width`, with capacity for `room` more tokens.

    Args:
        cache: a cache from `join`, whose layers are freed one by one; None if there is none yet.
        kept: its rows to keep, in front of the others; each has at most `width` tokens.
        added: prompts of at most `width` tokens.
    """
    layers: list[Any] = (added[0].cache if cache is None else cache).layers
    device = layers[0].keys.device
    rows = torch.tensor(kept, device=device, dtype=torch.long)
    columns = [torch.tensor(each.columns, device=device) for each in added]
    joined = []
    for index in range(len(layers)):
        old = None if cache is None else cache.layers[index]
        pair = []
        for name in ("keys", "values"):
            example = getattr(layers[index], name)
            states = example.new_zeros(len(kept) + len(added), example.shape[1], width + room, example.shape[3])
            if old is not None:
                last = getattr(old, name)[:, :, -width:]
                shown = last if len(kept) == len(last) else last[rows]
                states[: len(kept), :, width - last.shape[2] : width] = shown
            for row, (each, place) in enumerate(zip(added, columns, strict=True), len(kept)):
                source = getattr(each.cache.layers[index], name)
                states[row, :, width - len(place) : width] = source[each.row][:, place]
            pair.append(states)
        if cache is not None:
            cache.layers[index] = None
        joined.append(PreallocatedCacheLayer(pair[0], pair[1], width))
    return Cache(layers=joined)
