"""Checks before training that the later merge and loading will succeed."""

import sys
from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.deploy.delta import adapted_share, deltas_on, left_frozen
from jmedllm.deploy.fold import layout, stored_tensors, tensors_to_write
from jmedllm.errors import MOST_NAMED, InputError
from jmedllm.models.experts import expert_layers
from jmedllm.models.loading import load_structure
from jmedllm.training.lora import AdapterConfig, add_adapter_layers, why_experts_are_frozen


def require_loadable(base: Path, network: Any) -> dict[str, int]:
    """Check that the model that stage 1 writes will load again with every weight.

    Args:
        base: the model directory.
        network: structure of the model, see `load_structure`.

    Returns:
        Numbers of tensors in the base's files that its class does not use and stage 1 does not write, by the first
        parts of their names, such as layers that predict several tokens at once.

    Raises:
        InputError: a parameter would be missing from the files.
    """
    written = layout(base, network, tensors_to_write(network, base))
    tied = getattr(network, "all_tied_weights_keys", None) or {}
    for name, parameter in network.named_parameters():
        found = written.made.get(name, (None, None))[0]
        if found != tuple(parameter.shape) and name not in tied:
            raise InputError(
                f"model {base}: transformers would not write {name} so that it loads again; choose another base"
            )
    stored = stored_tensors(base)
    used = {name for _, conversion in layout(base, network, stored).made.values() for name in conversion.names}
    return dict(Counter(".".join(name.split(".")[:2]) for name in stored if name not in used))


@dataclass(frozen=True, slots=True)
class Coverage:
    """What an adapter changes of a model.

    Attributes:
        adapted: share of all weights in the matrices that it changes.
        frozen: shares of the weights that it leaves frozen, see `left_frozen`.
        why: why routed experts are among them, if the settings do not say so.
        unquantized: share of all weights in routed experts that `quantization` leaves as they are.
    """

    adapted: float
    frozen: dict[str, float]
    why: str | None
    unquantized: float


def require_mergeable(base: Path, adapter: AdapterConfig, *, is_rewritten: bool) -> Coverage:
    """Check that an adapter can be added to a base and merged into its files; return what it changes.

    Args:
        base: the model directory.
        adapter: settings of the adapter.
        is_rewritten: whether stage 1 writes the base before the adapter is trained.

    Raises:
        InputError: the base cannot be loaded, or the adapter cannot be added to it or merged.
    """
    network = load_structure(base)
    stored = tensors_to_write(network, base) if is_rewritten else stored_tensors(base)
    where = layout(base, network, stored)
    # transformers' rules, which `where` applies, need the network without adapter layers.
    adapted, found = _with_adapter(deepcopy(network), adapter)
    where.require({name: delta.shape for name, delta in deltas_on(adapted).items()})
    _require_names_kept(adapted)
    return found


def _require_names_kept(adapted: Any) -> None:
    """Check that peft finds each tensor of an adapter again, under the name with which it saves it.

    Raises:
        InputError: it looks for another name, so a saved adapter would be lost.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    adapter = next(iter(adapted.peft_config))
    tensors = get_peft_model_state_dict(adapted, adapter_name=adapter)
    found: Any = set_peft_model_state_dict(adapted, dict(tensors), adapter_name=adapter)
    if lost := [name for name in (*found.unexpected_keys, *found.missing_keys) if ".lora_" in name]:
        raise InputError(
            f"adapter: a saved adapter of this architecture would lose weights, because peft looks for {lost[0]}; "
            "list targets without that layer"
        )


def coverage(network: Any, adapter: AdapterConfig) -> Coverage:
    """Return what an adapter would change of a network without weights, to which it is added.

    Raises:
        InputError: the adapter cannot be added to it.
    """
    return _with_adapter(network, adapter)[1]


def _with_adapter(network: Any, adapter: AdapterConfig) -> tuple[Any, Coverage]:
    why, unquantized = why_experts_are_frozen(network, adapter), _left_unquantized(network, adapter)
    adapted = add_adapter_layers(network, adapter)
    return adapted, Coverage(adapted_share(adapted), left_frozen(adapted), why, unquantized)


def _left_unquantized(network: Any, adapter: AdapterConfig) -> float:
    """Return the share of all weights in routed experts that the quantization of linear layers leaves out."""
    if adapter.quantization == "none":
        return 0.0
    experts: int = sum(size for layer in expert_layers(network) for size in layer.matrices.values())
    total: int = sum(each.numel() for each in network.parameters())
    return experts / total


def report_unused_tensors(counts: Mapping[str, int], title: str) -> None:
    """Report on standard error which tensors of its base a stage does not write."""
    if counts:
        listed = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:MOST_NAMED])
        sys.stderr.write(
            f"{title}: {sum(counts.values())} tensors of the base's files, which its class does not use, are not "
            f"kept: {listed}\n"
        )


def report_coverage(found: Coverage, title: str) -> None:
    """Report on standard error which parts of 1 % of the weights or more an adapter leaves frozen."""
    if found.frozen:
        listed = ", ".join(f"{name} {share:.0%}" for name, share in list(found.frozen.items())[:MOST_NAMED])
        sys.stderr.write(
            f"{title}: the adapter adapts {found.adapted:.0%} of all weights and leaves frozen {listed} of them\n"
        )
    if found.unquantized:
        sys.stderr.write(
            f"{title}: quantization covers linear layers; routed experts, {found.unquantized:.0%} of all weights, are "
            "in no linear layers and stay in bfloat16\n"
        )
    if found.why:
        sys.stderr.write(f"{title}: routed experts are frozen, because {found.why}\n")


def report_frozen_parts(shares: Mapping[str, float], title: str) -> None:
    """Report on standard error which parts of the base stage 1 leaves frozen and writes unchanged."""
    if shares:
        listed = ", ".join(f"{name} ({share:.0%} of the weights)" for name, share in shares.items())
        sys.stderr.write(
            f"{title}: leaves frozen what text does not pass through, and writes it unchanged: {listed}\n"
        )
