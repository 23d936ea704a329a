"""Find the routed experts and the routers of a mixture-of-experts model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from jmedllm.models.layers import decoder_of, inside_adapter

_CONVOLUTIONS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
"""Layers whose weights have three or more dimensions without being experts."""

_LISTS = (torch.nn.ModuleList, torch.nn.ModuleDict)


@dataclass(frozen=True, slots=True)
class ExpertLayer:
    """The routed experts of one layer. A shared expert, which processes every token, is not among them.

    Attributes:
        name: name of the module that has the experts and their router, such as `model.layers.0.mlp`.
        count: number of routed experts.
        matrices: sizes of their matrices by parameter name. All experts share one parameter [experts, ., .], or each
            expert has its own layers.
        router: name of the module that chooses the experts; None if it is not beside them.
    """

    name: str
    count: int
    matrices: Mapping[str, int]
    router: str | None


def expert_layers(network: Any) -> list[ExpertLayer]:
    """Return the layers of routed experts of a causal model, in order; empty for a dense model.

    Experts are a module with parameters of three dimensions, or a list of experts, whose first dimension or length is
    the number of experts in the configuration. Their router is the module beside them whose only matrix has a row for
    each expert.

    Args:
        network: a Hugging Face causal model, with or without values, or a PEFT model around one.
    """
    base = inside_adapter(network)
    counts = _counts_in(base.config.get_text_config())
    if not counts:
        return []
    names = {id(module): name.replace(".base_layer", "") for name, module in base.named_modules()}
    decoder = {id(module) for module in decoder_of(network).modules()}
    found = []
    for block in base.modules():
        children = [_unwrapped(child) for child in block.children()] if id(block) in decoder else []
        experts = [child for child in children if _expert_count(child, names[id(child)]) in counts]
        if not experts:
            continue
        count = _expert_count(experts[0], names[id(experts[0])])
        matrices = {k: v for each in experts for k, v in _matrices(each, names[id(each)]).items()}
        router = next((child for child in children if _has_row_per_expert(child, count)), None)
        found.append(ExpertLayer(names[id(block)], count, matrices, None if router is None else names[id(router)]))
    return found


def router_layers(network: Any, layers: list[ExpertLayer]) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield each module that has the matrix of a router as its `weight`, with its name."""
    for router in [layer.router for layer in layers if layer.router is not None]:
        for name, module in network.get_submodule(router).named_modules(prefix=router):
            weight = module._parameters.get("weight")
            if weight is not None and weight.dim() == 2:
                yield name, module


def chosen_experts(config: Any, layer: ExpertLayer) -> int:
    """Return the number of routed experts that each token passes through in a layer.

    Args:
        config: the transformers configuration of the language model. It may have a list with a number for each decoder
            layer, as that of HunYuan does.
        layer: the layer; its number of experts is the result if the configuration does not name another.
    """
    names = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts", "moe_top_k")
    values = (_in_layer(getattr(config, name, None), layer.name) for name in names)
    return next((value for value in values if isinstance(value, int) and 0 < value <= layer.count), layer.count)


def _in_layer(value: Any, name: str) -> Any:
    """Return the entry of a list for the decoder layer of a module; other values are returned as they are."""
    if not isinstance(value, list | tuple):
        return value
    number = next((int(part) for part in name.split(".") if part.isdigit()), 0)
    return value[number] if number < len(value) else None


def _counts_in(config: Any) -> set[int]:
    """Return the values of a configuration that can be a number of experts."""
    names = {*config.to_dict(), *getattr(config, "attribute_map", {})}
    found = [getattr(config, name, None) for name in names if "experts" in name and "_per_" not in name]
    values = [value for each in found for value in (each if isinstance(each, list | tuple) else [each])]
    return {value for value in values if isinstance(value, int) and value > 1}


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """Return the module inside the wrappers of peft."""
    while isinstance(inner := getattr(module, "base_layer", None), torch.nn.Module):
        module = inner
    return module


def _expert_count(module: torch.nn.Module, name: str) -> int:
    """Return the number of experts if a module can be one of experts, else 0."""
    if isinstance(module, _LISTS):
        return len(module) if "expert" in name.rpartition(".")[2] else 0
    if isinstance(module, _CONVOLUTIONS):
        return 0
    counts = {each.shape[0] for each in module._parameters.values() if each is not None and each.dim() == 3}
    # LongCat-Flash has rows for its experts without weights in one of two parameters.
    return min(counts, default=0)


def _matrices(experts: torch.nn.Module, name: str) -> dict[str, int]:
    """Return the sizes of the matrices of experts; biases have one dimension less."""
    least = 2 if isinstance(experts, _LISTS) else 3
    return {f"{name}.{kind}": each.numel() for kind, each in experts.named_parameters() if each.dim() >= least}


def _has_row_per_expert(module: torch.nn.Module, count: int) -> bool:
    """Whether a module has one matrix, of one row per expert; a module of experts or a shared expert has more."""
    matrices = [each for each in module.parameters() if each.dim() > 1 and each.shape[0] > 1]
    return len(matrices) == 1 and matrices[0].dim() == 2 and matrices[0].shape[0] == count
