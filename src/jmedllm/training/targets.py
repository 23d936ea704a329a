"""Which layers of a network an adapter is put on."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch

from jmedllm.errors import InputError, unknown

Preset = Literal["all-linear", "attention", "qkv"]

_PRESETS = {
    "qkv": ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn"),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "query_key_value", "c_attn", "dense"),
}


def chosen(network: Any, targets: Preset | Sequence[str]) -> str | list[str]:
    """What peft is to be told: its own "all-linear", or the last parts of the layers' names.

    Raises:
        InputError: a target matches no linear layer (the nearest names are given), or is the output head of a
            model that shares it with its embedding.
    """
    if targets == "all-linear":
        return "all-linear"
    left_out = set(outside(network))
    present = {name.rpartition(".")[2] for name, _ in _linear_layers(network) if name not in left_out}
    if isinstance(targets, str):
        found = [name for name in _PRESETS[targets] if name in present]
        if not found:
            raise unknown("adapter target preset for this architecture", targets, present)
        return found
    for target in targets:
        if target not in present:
            raise unknown("adapter target", target, present - _tied_head(network))
    _require_untied_head(network, targets)
    return list(targets)


def outside(network: Any) -> list[str]:
    """Names of the linear layers that no adapter is put on, whatever is targeted.

    Those are the layers that text does not reach, such as a vision tower, and those that give more than the
    product that an adapter adds to, such as some routers.
    """
    reached = {id(module) for module in network.get_decoder().modules()} | {id(network.get_output_embeddings())}
    return [
        name for name, module in _linear_layers(network) if id(module) not in reached or not _gives_product(module)
    ]


def _linear_layers(network: Any) -> Iterator[tuple[str, Any]]:
    """All linear layers by name; GPT-2's are of a class of their own."""
    for name, module in network.named_modules():
        if hasattr(module, "in_features") or name.rpartition(".")[2] == "c_attn":
            yield name, module


def _gives_product(layer: Any) -> bool:
    """Whether a layer gives one number for each output and row, as every class of linear layer does but a few of
    single architectures."""
    forward = getattr(type(layer), "forward", None)
    if forward is torch.nn.Linear.forward or not type(layer).__module__.startswith("transformers.models."):
        return True
    try:
        found = layer(layer.weight.new_zeros(1, layer.in_features))
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        return False
    return isinstance(found, torch.Tensor) and found.shape == (1, layer.out_features)


def _require_untied_head(network: Any, targets: Sequence[str]) -> None:
    for name in _tied_head(network) & set(targets):
        raise InputError(
            f"adapter target {name!r} shares its weights with the embedding, which a merge would change "
            "too; leave it out"
        )


def _tied_head(network: Any) -> set[str]:
    """Name of the output head, if it shares its weights with the embedding."""
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    if head is None or head.weight is not embedding.weight:
        return set()
    return {name.rpartition(".")[2] for name, module in network.named_modules() if module is head}
