"""The parts of a causal model: its decoder, the decoder's layers, and what text does not pass through."""

from typing import Any

import torch

from jmedllm.errors import InputError


def inside_adapter(network: Any) -> Any:
    """Return the Hugging Face model inside a PEFT model, with its adapter layers; others are returned as they are."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def decoder_of(network: Any) -> Any:
    """Return the decoder of a Hugging Face causal model, or of a PEFT model around one.

    The decoder of a vision-language model is that of its language model, without the vision tower.
    """
    decoder = inside_adapter(network).get_decoder()
    # The language model of Llama 4 is a whole causal model, with an output head.
    return decoder.model if decoder.get_output_embeddings() is not None else decoder


def layer_list(network: Any) -> torch.nn.ModuleList:
    """Return the list of decoder layers of a Hugging Face causal model, or of a PEFT model around one.

    Raises:
        InputError: the decoder has no list of layers.
    """
    decoder = decoder_of(network)
    lists = [child for child in decoder.children() if isinstance(child, torch.nn.ModuleList)]
    if not lists:
        raise InputError(
            f"architecture {decoder.config.model_type!r} has no list of decoder layers; choose a base "
            "of the Llama or Qwen family"
        )
    return max(lists, key=len)


def decoder_layers(network: Any) -> list[torch.nn.Module]:
    """Return the decoder layers of a model, see `layer_list`."""
    return list(layer_list(network))


def freeze_beside_text(network: Any) -> dict[str, float]:
    """Freeze the weights that text does not pass through, such as a vision tower.

    Training on text gives them no gradient, so an optimizer would only spend memory on them.

    Returns:
        Share of all weights that each such part has, by name, largest first; empty for a language model.
    """
    total = sum(weight.numel() for weight in network.parameters())
    shares = {}
    for name, weights in parts_beside_text(network).items():
        for weight in weights:
            weight.requires_grad_(False)
        shares[name] = sum(weight.numel() for weight in weights) / total
    return dict(sorted(shares.items(), key=lambda part: -part[1]))


def parts_beside_text(network: Any) -> dict[str, list[torch.nn.Parameter]]:
    """Return the weights that text does not pass through, by the part of the model that they belong to."""
    of_text = {
        id(weight) for part in (decoder_of(network), network.get_output_embeddings()) for weight in part.parameters()
    }
    parts: dict[str, list[torch.nn.Parameter]] = {}
    for name, weight in network.named_parameters():
        if id(weight) not in of_text:
            parts.setdefault(part_name(name), []).append(weight)
    return parts


def part_name(name: str) -> str:
    """Return the part of a model that a parameter belongs to, such as model.vision_tower."""
    parts = name.split(".")
    return ".".join(parts[: 2 if parts[0] == "model" else 1])
