"""The optimizer interface of the training loop, and its variant that steps during the backward pass."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch.utils.hooks import RemovableHandle

from jmedllm.training.distributed import gather_full
from jmedllm.training.optim.adamw import AdamWVariant, StepConfig
from jmedllm.training.optim.weights import State, WeightFormat


@dataclass(frozen=True, slots=True)
class TrainedParameter:
    """A trainable parameter with its optimizer state.

    Attributes:
        holder: tensor whose `grad` accumulates the gradient in float32: the weight, or its copy on the host.
        state: moments and, in some weight formats, a float32 copy of the weight; keys contain no dot.
    """

    weight: torch.nn.Parameter
    holder: torch.Tensor
    weight_format: WeightFormat
    variant: AdamWVariant
    weight_decay: float
    state: State

    @torch.no_grad()
    def step(self, step_config: StepConfig) -> None:
        """Update the weight from the gradient in `holder`."""
        assert self.holder.grad is not None
        values = self.weight_format.read(self.weight, self.state)
        self.variant.step(values, self.holder.grad, self.state, step_config)
        self.weight_format.write(self.weight, values)


class Optimizer:
    """AdamW over named parameters, full or sharded, updated one after another to bound temporary memory.

    A training step calls `begin_step`, runs the backward passes, then calls `clip`, `step` and `zero_grad`.
    """

    def __init__(self, parts: Mapping[str, TrainedParameter], betas: tuple[float, float]) -> None:
        self.parts = parts
        self._betas = betas
        self._learning_rate: float | None = None
        self._hooks: list[RemovableHandle] = []

    def begin_step(self, learning_rate: float) -> None:
        """Set the learning rate of the next step, before its backward passes."""
        self._learning_rate = learning_rate

    def clip(self, largest: float | None) -> float:
        """Clip the gradient to the global norm `largest`, if given; return the norm before clipping."""
        holders = [part.holder for part in self.parts.values()]
        norm = torch.nn.utils.clip_grad_norm_(holders, math.inf if largest is None else largest)
        return float(gather_full(norm).item())

    def step(self) -> None:
        """Update each parameter that has a gradient."""
        for part in self.parts.values():
            if part.holder.grad is not None:
                part.step(self._step_config(part))

    def zero_grad(self) -> None:
        """Drop all gradients and end the step."""
        for part in self.parts.values():
            part.holder.grad = None
        self._learning_rate = None

    def state(self) -> State:
        """Return the tensors that a checkpoint must contain besides the parameters, by PARAMETER.KEY, without
        copying."""
        return {f"{name}.{key}": value for name, part in self.parts.items() for key, value in part.state.items()}

    def _on_gradient(self, part: TrainedParameter, act: Callable[[torch.Tensor], None]) -> None:
        """Call `act` in each backward pass as soon as the gradient of the weight is complete."""
        self._hooks.append(part.weight.register_post_accumulate_grad_hook(act))

    @contextmanager
    def without_gradient(self) -> Iterator[set[str]]:
        """Yield a set that has, after the block, the names of the weights that got no gradient in it."""
        names = set(self.parts)
        hooks = [
            part.weight.register_post_accumulate_grad_hook(lambda _, name=name: names.discard(name))
            for name, part in self.parts.items()
        ]
        try:
            yield names
        finally:
            for hook in hooks:
                hook.remove()

    def close(self) -> None:
        """Free moments, copies and gradients, even if the network or the optimizer is still referenced."""
        for hook in self._hooks:
            hook.remove()
        self.parts = {}

    def _step_config(self, part: TrainedParameter) -> StepConfig:
        assert self._learning_rate is not None, "begin comes first"
        return StepConfig(self._learning_rate, part.weight_decay, self._betas)


class BackwardOptimizer(Optimizer):
    """AdamW that updates each weight in a backward hook and then frees its gradient.

    No two gradients exist at once (Lv et al. 2023, arXiv 2306.09782, do the same with plain gradient descent). A
    weight is updated before the other gradients are known, so gradients can be neither clipped by their global norm
    nor accumulated over passes. A backward pass outside a step changes nothing.
    """

    def __init__(self, parts: Mapping[str, TrainedParameter], betas: tuple[float, float]) -> None:
        super().__init__(parts, betas)
        self._norms: list[torch.Tensor] = []
        for part in parts.values():
            self._on_gradient(part, partial(self._use, part))

    def _use(self, part: TrainedParameter, _: torch.Tensor) -> None:
        if self._learning_rate is not None and part.weight.grad is not None:
            self._norms.append(torch.linalg.vector_norm(part.weight.grad))
            part.step(self._step_config(part))
        part.weight.grad = None

    def clip(self, largest: float | None) -> float:
        """Return the global norm of the gradients, which have been freed; `largest` must be None."""
        assert largest is None, "gradients that are already applied cannot be clipped"
        norm = torch.linalg.vector_norm(torch.stack(self._norms)).item() if self._norms else 0.0
        self._norms.clear()
        return norm
