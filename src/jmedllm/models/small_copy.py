"""A small network with the architecture of a large one, to test how the architecture behaves."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch

from jmedllm.errors import InputError, is_out_of_memory
from jmedllm.models.classes import class_for
from jmedllm.models.libraries import be_quiet

_VOCABULARY = 320
_MOST_LAYERS = 8
"""Maximum number of decoder layers of a copy."""
_MOST_WEIGHTS = 150_000_000
"""Maximum number of weights of a copy (0.6 GB), since a copy whose sizes cannot be lowered could be as large as the
model."""

_NARROW = {
    "hidden_size": 64,
    "out_hidden_size": 64,
    "hidden_size_per_layer_input": 16,
    "num_attention_heads": 4,
    "num_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "q_lora_rank": 32,
    "kv_lora_rank": 32,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 16,
    "qk_head_dim": 32,
    "v_head_dim": 16,
    "mamba_n_heads": 16,
    "mamba_d_head": 8,
    "mamba_d_ssm": 128,
    "mamba_d_state": 16,
    "mamba_n_groups": 1,
    "mamba_num_heads": 4,
    "mamba_head_dim": 32,
    "ssm_state_size": 16,
    "n_groups": 1,
    "n_embd": 64,
    "n_head": 4,
}
_SHALLOW = {
    "vocab_size": _VOCABULARY,
    "vocab_size_per_layer_input": _VOCABULARY,
    "depth": 1,
    "intermediate_size": 64,
    "intermediate_size_mlp": 64,
    "shared_intermediate_size": 64,
    "moe_intermediate_size": 32,
    "moe_shared_expert_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "num_kv_shared_layers": 0,
}
_CHANGES: tuple[Mapping[str, int], ...] = (_NARROW | _SHALLOW, _SHALLOW, {"vocab_size": _VOCABULARY})
"""Sizes to try, smallest network first: not every architecture allows every combination of sizes."""

UNUSABLE = (ValueError, RuntimeError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError)
"""Exceptions that architectures raise for unsupported combinations of sizes, when built or when used."""

_GAIN = 1.6
"""Standard deviation of a layer's outputs for inputs of standard deviation 1. The usual initial weights of about 0.02
are so small that the effect of one token on another is lost in the residual stream."""


def small_copies(config: Any) -> Iterator[Any]:
    """Yield networks with the architecture of `config`, few layers and random weights in float32, smallest first.

    All features of a configuration (kinds of layers, biases, scaling, soft-capping) stay enabled. For composite
    configurations the text part is built, or all of it if transformers has no class for the text part alone.

    Args:
        config: a transformers configuration of a causal model; it is not changed.

    Yields:
        Networks that can be built; a caller that cannot use one tries the next.
    """
    for changes in _CHANGES:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = _built(config, changes)
        if network is not None:
            yield network


def _built(config: Any, changes: Mapping[str, int]) -> Any | None:
    from huggingface_hub.errors import StrictDataclassError

    be_quiet()
    try:
        small = _text_or_whole(config, changes)
        build = class_for(small).from_config
        with torch.device("meta"):
            size = sum(weight.numel() for weight in build(small).parameters())
        if size > _MOST_WEIGHTS:
            return None
        network = build(small, dtype=torch.float32)
    # Configurations raise many kinds of exceptions for sizes that do not fit together.
    except (*UNUSABLE, StrictDataclassError) as error:
        if is_out_of_memory(error):
            raise InputError("memory runs out on a small copy of the model's layers; free some host memory") from error
        return None
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1 and not name.endswith("A_log"):  # decay rates are not weights of a sum
                weight.normal_(0, _GAIN / weight[0].numel() ** 0.5)
    return network.eval()


def _text_or_whole(config: Any, changes: Mapping[str, int]) -> Any:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    text = config.get_text_config()
    if text is config or text.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return _smaller(text, changes)
    whole = deepcopy(config)
    for name in config.sub_configs:
        setattr(whole, name, _smaller(getattr(config, name), changes))
    return whole


def _smaller(config: Any, changes: Mapping[str, int]) -> Any:
    values: dict[str, Any] = config.to_dict()
    layers = getattr(config, "num_hidden_layers", None)
    of_layers = [name for name, value in values.items() if isinstance(value, list) and len(value) == layers]
    kept = _layers_kept([values[name] for name in of_layers], layers or 0)
    for name in of_layers:
        values[name] = [values[name][number] for number in kept]
    if by_layer := values.get("per_layer_config"):
        numbered = {int(number): sizes for number, sizes in by_layer.items()}
        values["per_layer_config"] = {
            place: _lowered(numbered[number], changes) for place, number in enumerate(kept) if number in numbered
        }
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        values[name] = 0  # the model's ids are outside the copy's vocabulary
    heads = changes.get("num_attention_heads")
    if heads and values.get("num_key_value_heads") == values.get("num_attention_heads"):
        changes = {**changes, "num_key_value_heads": heads}  # latent attention allows no other number
    if layers:
        values["num_hidden_layers"] = len(kept)
    return type(config).from_dict(_lowered(values, changes))


def _lowered(values: Mapping[str, Any], changes: Mapping[str, int]) -> dict[str, Any]:
    """Lower the sizes of a configuration to those in `changes`."""

    def lower(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return [lower(name, each) for each in value]
        is_size = name in changes and isinstance(value, int) and not isinstance(value, bool)
        return min(changes[name], value) if is_size else value

    return {name: lower(name, value) for name, value in values.items()}


def _layers_kept(of_layers: list[list[Any]], layers: int) -> list[int]:
    """Return the indices of the first layer of each kind, at least two layers.

    Args:
        of_layers: per-layer lists of a configuration.
        layers: number of layers.
    """
    kinds: dict[str, int] = {}
    for number in range(layers):
        kinds.setdefault(str([each[number] for each in of_layers]), number)
    first = [*kinds.values()][:_MOST_LAYERS]
    return first if len(first) > 1 else [*range(min(layers, 2))]
