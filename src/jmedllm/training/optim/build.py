"""Which of the three optimizers a stage gets, and what each parameter keeps."""

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
"""Parameters with fewer numbers get no moments of 8 bits, as in bitsandbytes: there is nothing to save."""

_RULES: Mapping[OptimizerName, AdamWVariant] = {"adamw": ADAMW, "adamw-bf16": ADAMW_BF16, "adamw-8bit": ADAMW_8BIT}


def build(network: Any, settings: TrainingConfig, device: torch.device) -> Optimizer:
    """The optimizer of all parameters of a network that require a gradient, before the first step.

    Args:
        network: its trained parameters have the format that `settings.weight_format` asks for.
        settings: betas, weight decay, the forms of moments and weights, and where and when steps are made.
        device: where the network computes.
    """
    parts = parts_of(network, settings)
    set_gradient_dtypes(network, settings)
    if settings.cpu_offload != "none":
        return CpuOffloadOptimizer(parts, settings.betas, PinnedBuffers(device))
    return (BackwardOptimizer if settings.optimizer_in_backward else Optimizer)(parts, settings.betas)


def set_gradient_dtypes(network: Any, settings: TrainingConfig) -> None:
    """Let gradients of bfloat16 weights come in float32, or as they are computed where they leave for the host.

    Micro-batches that add up in bfloat16 lose what is small; those that leave add up on the host. Of a weight that
    is used twice both contributions meet before they leave.
    """
    uses = Counter(id(p) for _, p in network.named_parameters(remove_duplicate=False))
    for parameter in network.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            leaves = settings.cpu_offload != "none" and uses[id(parameter)] == 1
            parameter.grad_dtype = None if leaves else torch.float32


def parts_of(network: Any, settings: TrainingConfig) -> dict[str, TrainedParameter]:
    """What the optimizer keeps for each trained parameter, by name; matrices come first."""
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    embeddings = {id(m.weight) for m in network.modules() if isinstance(m, torch.nn.Embedding)}
    weight_format = WEIGHT_FORMATS[settings.weight_format]
    parts = {}
    for name, weight in sorted(trained.items(), key=lambda each: each[1].dim() < 2):
        variant = _RULES[settings.optimizer]
        # Embeddings train more stably with moments of 32 bits: section 2.3 of the paper on 8-bit optimizers.
        if variant is ADAMW_8BIT and (weight.numel() < SMALL or id(weight) in embeddings):
            variant = ADAMW
        weight_decay = settings.weight_decay if weight.dim() >= 2 else 0.0
        home = weight if settings.cpu_offload == "none" else weight.detach().cpu()
        state = variant.start(home) | weight_format.start(home)
        holder = weight if settings.cpu_offload == "none" else state[MASTER]
        parts[name] = TrainedParameter(weight, holder, weight_format, variant, weight_decay, state)
    return parts
