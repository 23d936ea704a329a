"""Key-value cache for generation that does not copy all tokens at every step."""

from typing import Any

import torch
from transformers.cache_utils import DynamicLayer


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

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep some rows."""
        self.whole_keys, self.whole_values = self.whole_keys[indices], self.whole_values[indices]
        self._show()

    def _show(self) -> tuple[torch.Tensor, torch.Tensor]:
        self.keys, self.values = self.whole_keys[:, :, : self.length], self.whole_values[:, :, : self.length]
        return self.keys, self.values
