"""Measure AdamW's step on the host, in nanoseconds of one thread per parameter, compared with torch on float32.

python benchmarks/host_step.py
"""

import time
from collections.abc import Callable

import torch

from jmedllm.training.optim.adamw import ADAMW, ADAMW_8BIT, ADAMW_BF16, AdamWVariant, StepConfig
from jmedllm.training.optim.weights import chunks

NUMBERS = 2**25
ROUNDS = 3


def main() -> None:
    """Print a line for each format of moments, and for accumulating gradients."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    values, gradient = torch.randn(2, NUMBERS // 4096, 4096)
    sent = torch.randn(NUMBERS).bfloat16()
    copy = torch.nn.Parameter(values.clone())
    copy.grad = gradient.clone()
    theirs = torch.optim.AdamW([copy], fused=True)
    costs = {
        "torch.optim.AdamW, fused, float32": _cost(theirs.step),
        "adamw": _cost(_stepping(ADAMW, values, gradient)),
        "adamw-bf16": _cost(_stepping(ADAMW_BF16, values, gradient)),
        "adamw-8bit": _cost(_stepping(ADAMW_8BIT, values, gradient)),
        "bfloat16 gradient added to float32, by torch": _cost(lambda: values.view(-1).add_(sent)),
        "bfloat16 gradient added to float32, by offload": _cost(lambda: _add(values.view(-1), sent)),
    }
    first = next(iter(costs.values()))
    for name, cost in costs.items():
        print(f"{name:56} {cost:6.2f} ns  {cost / first:5.2f}x")


def _stepping(variant: AdamWVariant, values: torch.Tensor, gradient: torch.Tensor) -> Callable[[], None]:
    state, step_config = variant.start(values), StepConfig(1e-5, 0.1, (0.9, 0.95))
    return lambda: variant.step(values, gradient, state, step_config)


def _add(into: torch.Tensor, values: torch.Tensor) -> None:
    for part, added in chunks(into, values):
        part.add_(added.float())


def _cost(act: Callable[[], object]) -> float:
    """The minimum CPU time over all rounds, because other processes may run on the machine."""
    act()
    costs = []
    for _ in range(ROUNDS):
        began = time.process_time()
        act()
        costs.append(time.process_time() - began)
    return min(costs) / NUMBERS * 1e9


if __name__ == "__main__":
    main()
