"""The optimiser as the loop and the checkpoints see it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from jmedllm.training.adamw import IN_8_BITS, IN_32_BITS, Pace, Rule
from jmedllm.training.optimization import Optimization
from jmedllm.training.weights import KEEPINGS, Keeping, State

SMALL = 4096
"""Parameters with fewer numbers keep moments of 32 bits, as in bitsandbytes: there is nothing to save."""


@dataclass(frozen=True, slots=True)
class Part:
    """One trained parameter with all that its steps need.

    Attributes:
        state: moments and, in some ways of keeping weights, a copy of the weight; keys have no dot.
    """

    weight: torch.nn.Parameter
    keeping: Keeping
    rule: Rule
    decay: float
    state: State


@dataclass(frozen=True, slots=True)
class Optimizer:
    """AdamW over named parameters, whole or in shards; one after another, so no second copy of all is made."""

    parts: Mapping[str, Part]
    betas: tuple[float, float]

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained. Gradients are added up in float32, whatever the format of the weights."""
        return [part.weight for part in self.parts.values()]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change each parameter that has a gradient, at learning rate `rate`."""
        for part in self.parts.values():
            if part.weight.grad is not None:
                values = part.keeping.read(part.weight, part.state)
                part.rule.step(values, part.weight.grad, part.state, Pace(rate, part.decay, self.betas))
                part.keeping.write(part.weight, values)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for part in self.parts.values():
            part.weight.grad = None

    def state(self) -> State:
        """All that a checkpoint must hold beside the parameters, as PARAMETER.KEY: the tensors themselves."""
        return {f"{name}.{key}": value for name, part in self.parts.items() for key, value in part.state.items()}

    @torch.no_grad()
    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take over what `state` gave, from among other tensors."""
        for name, value in self.state().items():
            value.copy_(tensors[name])


def build(network: Any, settings: Optimization) -> Optimizer:
    """The optimiser of all parameters of a network that require a gradient, before the first step.

    Args:
        network: its trained parameters have the format that `settings.weight_format` asks for.
        settings: betas, weight decay, and the forms of moments and weights.
    """
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    embeddings = {id(m.weight) for m in network.modules() if isinstance(m, torch.nn.Embedding)}
    keeping = KEEPINGS[settings.weight_format]
    parts = {}
    for name, weight in sorted(trained.items(), key=lambda each: each[1].dim() < 2):
        if weight.dtype != torch.float32:
            weight.grad_dtype = torch.float32  # else micro-batches add up in bfloat16 and lose what is small
        # Embeddings train more stably with moments of 32 bits: section 2.3 of the paper on 8-bit optimisers.
        is_exempt = weight.numel() < SMALL or id(weight) in embeddings
        rule = IN_8_BITS if settings.optimizer == "adamw-8bit" and not is_exempt else IN_32_BITS
        decay = settings.weight_decay if weight.dim() >= 2 else 0.0
        parts[name] = Part(weight, keeping, rule, decay, rule.start(weight) | keeping.start(weight))
    return Optimizer(parts, settings.betas)
