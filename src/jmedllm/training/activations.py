"""What is kept of a forward pass until its backward pass.

Each decoder layer keeps its input alone and is computed again when its gradient is due (Chen et al. 2016,
arXiv 1604.06174). The inputs can also wait in the host's memory.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import checkpoint

from jmedllm.training.config import ActivationCheckpointing


def keep_less(network: Any, activations: ActivationCheckpointing) -> None:
    """Have the decoder layers of a network keep less; the numbers it computes stay the same.

    Args:
        network: a Hugging Face causal model, or a PEFT model around one.
        activation_checkpointing: none: keep all; recompute: keep each layer's input; offload: keep it in host memory,
            pinned where there is a GPU. Without a GPU this copies it, to no use.
    """
    if activations == "none":
        return
    # transformers 5.23 renamed the method and warns at the old name, which 5.17 alone knows.
    enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    if activations == "offload":
        for module in network.modules():
            if hasattr(module, "_gradient_checkpointing_func"):
                module._gradient_checkpointing_func = _checkpoint_from_host


def _checkpoint_from_host(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> Any:
    # Around the checkpoint only its inputs are saved; what is computed inside is dropped as before.
    with save_on_cpu(pin_memory=torch.cuda.is_available()):
        return checkpoint(function, *inputs, use_reentrant=False)
