"""AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), with moments in float32, bfloat16 or 8 bits.

bfloat16 moments use stochastic rounding: rounded to nearest, a slow moment never changes. In 8 bits (Dettmers et al.
2022, arXiv 2110.02861) each moment is a number of 256 levels, close together near zero, times the largest magnitude of
its block of 256.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch.optim.adamw import adamw

from jmedllm.training.optim.weights import State, chunks, draw_noise, round_part

EPSILON = 1e-8
BLOCK = 256
"""Numbers that share a scale; fixed by bitsandbytes."""


@dataclass(frozen=True, slots=True)
class StepConfig:
    """Hyperparameters of one step.

    Attributes:
        learning_rate: learning rate.
        weight_decay: decoupled weight decay, which is multiplied by the learning rate.
        betas: decay rates of the first and second moment.
    """

    learning_rate: float
    weight_decay: float
    betas: tuple[float, float]


@dataclass(frozen=True, slots=True)
class AdamWVariant:
    """One variant of AdamW.

    Attributes:
        start: creates the state of a weight: its moments and its number of steps.
        step: updates values and moments in place from a gradient of the same shape; values and gradient are float32.
    """

    start: Callable[[torch.Tensor], State]
    step: Callable[[torch.Tensor, torch.Tensor, State, StepConfig], None]


def _start(weight: torch.Tensor, dtype: torch.dtype = torch.float32) -> State:
    return {
        "step": torch.zeros((), device=weight.device),
        "exp_avg": torch.zeros_like(weight, dtype=dtype),
        "exp_avg_sq": torch.zeros_like(weight, dtype=dtype),
    }


def _step(values: torch.Tensor, gradient: torch.Tensor, state: State, step_config: StepConfig) -> None:
    adamw(
        [values],
        [gradient],
        [state["exp_avg"]],
        [state["exp_avg_sq"]],
        [],
        [state["step"]],
        fused=True,
        amsgrad=False,
        beta1=step_config.betas[0],
        beta2=step_config.betas[1],
        lr=step_config.learning_rate,
        weight_decay=step_config.weight_decay,
        eps=EPSILON,
        maximize=False,
    )


def _step_bf16(values: torch.Tensor, gradient: torch.Tensor, state: State, step_config: StepConfig) -> None:
    first, second = state["exp_avg"], state["exp_avg_sq"]
    noises = draw_noise(first), draw_noise(second)
    for value, slope, *moments in chunks(values, gradient, first, second):
        exact = [moment.float() for moment in moments]
        step = state["step"].clone()
        _step(value, slope, {"step": step, "exp_avg": exact[0], "exp_avg_sq": exact[1]}, step_config)
        for moment, number, noise in zip(moments, exact, noises, strict=True):
            moment.copy_(round_part(number, noise))
    state["step"] += 1


def _start_8bit(weight: torch.Tensor) -> State:
    blocks = -(-weight.numel() // BLOCK)
    return {
        "step": torch.zeros(()),
        "exp_avg": torch.zeros_like(weight, dtype=torch.uint8),
        "exp_avg_sq": torch.zeros_like(weight, dtype=torch.uint8),
        "exp_avg_scale": torch.zeros(blocks, device=weight.device),
        "exp_avg_sq_scale": torch.zeros(blocks, device=weight.device),
    }


def _step_8bit(values: torch.Tensor, gradient: torch.Tensor, state: State, step_config: StepConfig) -> None:
    state["step"] += 1
    signed, unsigned = _levels(values.device)
    start = 0
    # In parts: on a CPU bitsandbytes unpacks its whole input, which takes 20 bytes per number.
    for value, slope, first, second in chunks(values, gradient, state["exp_avg"], state["exp_avg_sq"]):
        blocks = slice(start // BLOCK, -(-(start + len(value)) // BLOCK))
        _bitsandbytes().optimizer_update_8bit_blockwise(
            "adam",
            slope,
            value,
            first,
            second,
            *step_config.betas,
            0.0,
            0.0,
            EPSILON,
            int(state["step"]),
            step_config.learning_rate,
            signed,
            unsigned,
            state["exp_avg_scale"][blocks],
            state["exp_avg_sq_scale"][blocks],
            step_config.weight_decay,
        )
        start += len(value)


def _bitsandbytes() -> Any:
    import bitsandbytes.functional

    return bitsandbytes.functional


@cache
def _levels(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the 256 levels of a signed and of an unsigned moment, between -1 and 1."""
    library = _bitsandbytes()
    return library.create_dynamic_map(signed=True).to(device), library.create_dynamic_map(signed=False).to(device)


ADAMW = AdamWVariant(_start, _step)
ADAMW_BF16 = AdamWVariant(partial(_start, dtype=torch.bfloat16), _step_bf16)
ADAMW_8BIT = AdamWVariant(_start_8bit, _step_8bit)
