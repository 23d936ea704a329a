"""AdamW in host memory: the GPU keeps bfloat16 weights, the host float32 copies, moments and gradients.

A gradient leaves as soon as it is there, so that the GPU never holds more than a few; the CPU makes the step
(Ren et al. 2021, arXiv 2101.06840), and its result goes back rounded. This is AdamW on float32 copies to the last
bit: what is added up, clipped and stepped are the same numbers in the same order.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch

from jmedllm.training.optim.optimizer import Optimizer, Part
from jmedllm.training.optim.pinned_buffers import Ring
from jmedllm.training.optim.weights import in_parts


class OnHost(Optimizer):
    """AdamW over parts whose holders are float32 copies on the host.

    Args:
        parts: their weights are on the device of `ring`, or on the host like the copies.
    """

    def __init__(self, parts: Mapping[str, Part], betas: tuple[float, float], ring: Ring) -> None:
        self._ring = ring
        sending = {n: replace(part, keeping=replace(part.keeping, write=self._write)) for n, part in parts.items()}
        super().__init__(sending, betas)
        for part in self.parts.values():
            gradient = torch.empty_like(part.holder)
            self._at_each_gradient(part, partial(self._send, part, gradient))

    def _send(self, part: Part, gradient: torch.Tensor, _: torch.Tensor) -> None:
        """Put a gradient that has just been made into the host's, or add it to what is there."""
        made, part.weight.grad = part.weight.grad, None
        assert made is not None
        kept = gradient.view(-1)
        is_first = part.holder.grad is None
        part.holder.grad = gradient

        def arrived(start: int, values: torch.Tensor) -> None:
            into = kept[start : start + len(values)]
            if is_first:
                into.copy_(values)
                return
            for sums, added in in_parts(into, values):
                sums.add_(added.float())  # torch adds two formats in five times the time

        self._ring.down(made, arrived)

    def _write(self, weight: torch.Tensor, values: torch.Tensor) -> None:
        if weight.device == values.device:
            weight.copy_(values)
        else:
            self._ring.up(values, weight)

    def clip(self, largest: float | None) -> float:
        """See `Optimizer.clip`; waits until all gradients are on the host."""
        self._ring.wait()
        return super().clip(largest)

    def step(self) -> None:
        """See `Optimizer.step`; the next forward pass waits for the weights that are still on their way."""
        super().step()
        self._ring.wait()

    def close(self) -> None:
        """See `Optimizer.close`; frees the slots too."""
        super().close()
        self._ring.close()

    def zero_grad(self) -> None:
        """Drop all gradients, those on their way too; the room for them stays."""
        self._ring.wait()
        super().zero_grad()
