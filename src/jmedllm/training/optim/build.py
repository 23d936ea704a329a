"""Build the optimizer of a stage from its settings."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

from jmedllm.training.config import OptimizerName, TrainingConfig
from jmedllm.training.optim.adamw import ADAMW, ADAMW_8BIT, ADAMW_BF16, AdamWVariant
from jmedllm.training.optim.cpu_offload import CpuOffloadOptimizer, PinnedBuffers
from jmedllm.training.optim.optimizer import BackwardOptimizer, Optimizer, TrainedParameter
from jmedllm.training.optim.weights import MASTER, WEIGHT_FORMATS

SMALL = 4096
"""Smaller parameters get no 8-bit moments, as in bitsandbytes, because they would save nothing."""

_RULES: Mapping[OptimizerName, AdamWVariant] = {"adamw": ADAMW, "adamw-bf16": ADAMW_BF16, "adamw-8bit": ADAMW_8BIT}


def build(network: Any, settings: TrainingConfig, device: torch.device) -> Optimizer:
    """Build the optimizer of all parameters that require a gradient.

    Args:
        network: model whose trainable parameters have the dtype of `settings.weight_format`.
        settings: settings of the stage.
        device: device of the network's computation.
    """
    parts = parts_of(network, settings)
    set_gradient_dtypes(network, settings)
    if settings.cpu_offload != "none":
        return CpuOffloadOptimizer(parts, settings.betas, PinnedBuffers(device))
    return (BackwardOptimizer if settings.optimizer_in_backward else Optimizer)(parts, settings.betas)


def set_gradient_dtypes(network: Any, settings: TrainingConfig) -> None:
    """Compute gradients of bfloat16 weights in float32, or in bfloat16 if they are sent to the host.

    Summing micro-batches in bfloat16 would lose small contributions; gradients sent to the host are summed there in
    float32. If a weight is used twice, both contributions are summed before they are sent.
    """
    uses = Counter(id(p) for _, p in network.named_parameters(remove_duplicate=False))
    for parameter in network.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            leaves = settings.cpu_offload != "none" and uses[id(parameter)] == 1
            parameter.grad_dtype = None if leaves else torch.float32


def parts_of(network: Any, settings: TrainingConfig) -> dict[str, TrainedParameter]:
    """Return the optimizer's entry for each trainable parameter, by name; matrices first."""
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    embeddings = {id(m.weight) for m in network.modules() if isinstance(m, torch.nn.Embedding)}
    weight_format = WEIGHT_FORMATS[settings.weight_format]
    parts = {}
    for name, weight in sorted(trained.items(), key=lambda each: each[1].dim() < 2):
        variant = _RULES[settings.optimizer]
        # Embeddings train more stably with 32-bit moments: Dettmers et al. 2022, arXiv 2110.02861, section 2.3.
        if variant is ADAMW_8BIT and (weight.numel() < SMALL or id(weight) in embeddings):
            variant = ADAMW
        weight_decay = settings.weight_decay if weight.dim() >= 2 else 0.0
        home = weight if settings.cpu_offload == "none" else weight.detach().cpu()
        state = variant.start(home) | weight_format.start(home)
        holder = weight if settings.cpu_offload == "none" else state[MASTER]
        parts[name] = TrainedParameter(weight, holder, weight_format, variant, weight_decay, state)
    return parts
