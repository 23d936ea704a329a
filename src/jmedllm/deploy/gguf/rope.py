"""Rotary positions as llama.cpp describes them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from jmedllm.errors import InputError

Metadata = dict[str, int | float | bool | str | list[int] | list[bool]]
"""Values by key; keys of the architecture are without its name."""

_FIX = "serve the model directory with vLLM or transformers"


def of_layer(config: Any, layer: int) -> Any:
    """Return the configuration of a layer; in some models heads differ between layers."""
    return config.per_layer_config[layer] if hasattr(config, "per_layer_config") else config


def head_size(config: Any) -> int:
    """Return the number of elements of a head, in the last layer."""
    last = of_layer(config, config.num_hidden_layers - 1)
    return int(getattr(last, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def rotated_size(config: Any) -> int:
    """Return how many elements of a head are rotated."""
    return int(head_size(config) * _global(config).get("partial_rotary_factor", 1.0))


def rope_metadata(config: Any) -> Metadata:
    """Return the values that describe rotary positions.

    Raises:
        InputError: their kind is not supported.
    """
    rope = _global(config)
    kind = rope.get("rope_type", "default")
    if kind not in _KINDS:
        raise InputError(
            f"gguf: rotary positions of the type {kind!r} are not supported (supported: {', '.join(_KINDS)}); {_FIX}"
        )
    found: Metadata = {"rope.dimension_count": rotated_size(config), "rope.freq_base": float(rope["rope_theta"])}
    return found | _KINDS[kind](rope) | _local(config) | _limits(config)


def _global(config: Any) -> Mapping[str, Any]:
    """Return the parameters of layers that attend to the whole text."""
    rope: Mapping[str, Any] = config.rope_parameters
    inner: Mapping[str, Any] = rope.get("full_attention", rope)
    return inner


def _local(config: Any) -> Metadata:
    """Return what differs in layers with a sliding window."""
    rope = config.rope_parameters.get("sliding_attention")
    if rope is None:
        return {}
    if rope.get("rope_type", "default") != "default":
        raise InputError(f"gguf: rotary positions of sliding windows of the type {rope['rope_type']!r}; {_FIX}")
    return {"rope.freq_base_swa": float(rope["rope_theta"])}


def _plain(_: Mapping[str, Any]) -> Metadata:
    return {}


def _linear(rope: Mapping[str, Any]) -> Metadata:
    return {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}


def _yarn(rope: Mapping[str, Any]) -> Metadata:
    """YaRN (Peng et al. 2023, arXiv 2309.00071); llama.cpp derives the attention factor."""
    factor = float(rope["factor"])
    usual = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
    attention = rope.get("attention_factor")
    if (attention is not None and abs(attention - usual) > 1e-6) or rope.get("mscale") or rope.get("mscale_all_dim"):
        raise InputError(
            f"gguf: llama.cpp derives YaRN's attention factor as {usual:g}, the model has another; {_FIX}"
        )
    return {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": int(rope["original_max_position_embeddings"]),
        "rope.scaling.yarn_beta_fast": float(rope.get("beta_fast") or 32.0),
        "rope.scaling.yarn_beta_slow": float(rope.get("beta_slow") or 1.0),
    }


def _long(_: Mapping[str, Any]) -> Metadata:
    return {"rope.scaling.type": "longrope"}


def _limits(config: Any) -> Metadata:
    """Limit LongRoPE (Ding et al. 2024, arXiv 2402.13753) to the context in which both use the short factors.

    Beyond, transformers changes to the long factors when a text is long, and llama.cpp when its context is.
    """
    rope = _global(config)
    if rope.get("rope_type") != "longrope":
        return {}
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    original = int(rope.get("original_max_position_embeddings") or config.max_position_embeddings)
    _, attention = ROPE_INIT_FUNCTIONS["longrope"](config, torch.device("cpu"))
    return {
        "context_length": original,
        "rope.scaling.original_context_length": original,
        "rope.scaling.attn_factor": float(attention),
    }


def is_rounded(config: Any) -> bool:
    """Return whether llama.cpp rounds the bounds of YaRN's ramp and the model does not, as gpt-oss."""
    rope = _global(config)
    return rope.get("rope_type") == "yarn" and rope.get("truncate", True) is False


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], Metadata]] = {
    "default": _plain,
    "linear": _linear,
    "llama3": _plain,  # its factors are a tensor, see `rope_factors`
    "yarn": _yarn,
    "longrope": _long,
    "proportional": _plain,  # as llama3
}


_STILL = 1e30
"""Divisor of the frequency of elements that are not rotated."""


def rope_factors(config: Any) -> dict[str, torch.Tensor]:
    """Return the [rotated_size / 2] divisors of the rotary frequencies, by llama.cpp's name; none if not changed.

    transformers computes the frequencies, so that there is a single source of the formula.
    """
    rope = _global(config)
    if rope.get("rope_type") == "longrope":
        return {f"rope_factors_{kind}.weight": torch.tensor(rope[f"{kind}_factor"]) for kind in ("long", "short")}
    if rope.get("rope_type") == "proportional":
        size, rotated = head_size(config), rotated_size(config)
        return {"rope_freqs.weight": torch.tensor([1.0] * (rotated // 2) + [_STILL] * (size // 2 - rotated // 2))}
    if rope.get("rope_type") != "llama3":
        return {}
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    exponents = torch.arange(0, head_size(config), 2, dtype=torch.int64).float() / head_size(config)
    factors: torch.Tensor = (1.0 / (rope["rope_theta"] ** exponents)) / scaled
    return {"rope_freqs.weight": factors}
