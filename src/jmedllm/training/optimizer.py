"""The optimiser of a stage: one form of AdamW over one way of keeping weights."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.training.adamw import IN_8_BITS, IN_32_BITS, Pace, Rule
from jmedllm.training.optimization import Optimization
from jmedllm.training.weights import KEEPINGS, Keeping

RULES: Mapping[str, Rule] = {"adamw": IN_32_BITS, "adamw-8bit": IN_8_BITS}


class Optimizer(torch.optim.Optimizer):
    """Applies a rule to one parameter after another, so that no second copy of them all is ever made.

    Its state is a few tensors for each parameter: all that checkpoints need to know of it.
    """

    def __init__(
        self, groups: list[dict[str, Any]], rate: float, betas: tuple[float, float], rule: Rule, keeping: Keeping
    ) -> None:
        super().__init__(groups, {"lr": rate, "betas": betas})
        self.rule, self.keeping = rule, keeping

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        for group in self.param_groups:
            pace = Pace(group["lr"], group["weight_decay"], group["betas"])
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state |= self.rule.start(parameter) | self.keeping.start(parameter)
                values = self.keeping.read(parameter, state)
                self.rule.step(values, parameter.grad.float(), state, pace)
                self.keeping.write(parameter, values)


def build_optimizer(network: Any, settings: Optimization) -> Optimizer:
    """The optimiser of all parameters that require a gradient; weight decay on matrices only.

    Raises:
        InputError: it needs a library that is not there.
    """
    if settings.optimizer == "adamw-8bit":
        _require_bitsandbytes()
    trainable = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.dim() < 2], "weight_decay": 0.0},
    ]
    rule, keeping = RULES[settings.optimizer], KEEPINGS[settings.weight_format]
    return Optimizer(groups, settings.learning_rate, settings.betas, rule, keeping)


def _require_bitsandbytes() -> None:
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise InputError("optimizer adamw-8bit needs bitsandbytes; install it with: pip install 'jmedllm[gpu]'")
