"""Find the decoder layers of a causal model."""

from typing import Any

import torch

from jmedllm.errors import InputError


def decoder_layers(network: Any) -> list[torch.nn.Module]:
    """Return the decoder layers of a Hugging Face causal model, or of a PEFT model around one.

    Raises:
        InputError: the decoder has no list of layers.
    """
    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    lists = [list(child) for child in base.get_decoder().children() if isinstance(child, torch.nn.ModuleList)]
    if not lists:
        raise InputError(
            f"architecture {base.config.model_type!r} has no list of decoder layers; choose a base "
            "of the Llama or Qwen family"
        )
    return max(lists, key=len)
