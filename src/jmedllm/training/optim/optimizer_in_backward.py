"""Steps that are made during the backward pass: a gradient is used and dropped as soon as it is there.

So no two gradients exist at once (Lv et al. 2023, arXiv 2306.09782, do so with plain gradient descent). A step is
made before the other gradients are known: they cannot be clipped by the norm of all, nor added up over passes.
"""

from collections.abc import Mapping
from functools import partial

import torch

from jmedllm.training.optim.optimizer import Optimizer, Part


class OptimizerInBackward(Optimizer):
    """AdamW whose steps are made by hooks of the backward pass; one that no step has begun for changes nothing."""

    def __init__(self, parts: Mapping[str, Part], betas: tuple[float, float]) -> None:
        super().__init__(parts, betas)
        self._norms: list[torch.Tensor] = []
        for part in parts.values():
            self._at_each_gradient(part, partial(self._use, part))

    def _use(self, part: Part, _: torch.Tensor) -> None:
        if self._rate is not None and part.weight.grad is not None:
            self._norms.append(torch.linalg.vector_norm(part.weight.grad))
            part.step(self._pace(part))
        part.weight.grad = None

    def clip(self, largest: float | None) -> float:
        """Norm of the whole gradient, which has been used up: `largest` must be None."""
        assert largest is None, "gradients that are used up cannot be clipped"
        norm = torch.linalg.vector_norm(torch.stack(self._norms)).item() if self._norms else 0.0
        self._norms.clear()
        return norm
