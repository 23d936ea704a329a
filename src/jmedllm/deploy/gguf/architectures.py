"""Architectures that can be exported: their configuration and tensors as llama.cpp expects them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from jmedllm.errors import InputError

Metadata = dict[str, int | float | bool | str]
"""Values by key; keys of the architecture are without its name."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """How llama.cpp represents the models of a transformers class.

    Attributes:
        name: llama.cpp's name.
        interleaves: whether llama.cpp rotates neighbouring elements of a head and not its halves, so that the rows of
            the query and key projections are reordered.
        fixed: settings that llama.cpp cannot express, and the only values with which the model can be exported.
    """

    name: str
    interleaves: bool = False
    fixed: Mapping[str, object] = field(default_factory=dict)


_LLAMA = {"hidden_act": "silu", "mlp_bias": False}

ARCHITECTURES: Mapping[str, Architecture] = {
    "LlamaForCausalLM": Architecture("llama", interleaves=True, fixed=_LLAMA),
    "MistralForCausalLM": Architecture(
        "llama", interleaves=True, fixed={"hidden_act": "silu", "sliding_window": None}
    ),
    "Qwen2ForCausalLM": Architecture("qwen2", fixed={"hidden_act": "silu", "use_sliding_window": False}),
    "Qwen3ForCausalLM": Architecture(
        "qwen3",
        fixed={"hidden_act": "silu", "use_sliding_window": False, "attention_bias": False},
    ),
}
"""Exported architectures by the name of their transformers class."""


def architecture_of(config: Any) -> Architecture:
    """Return the architecture of a configuration.

    Raises:
        InputError: it is not exported, or has a setting that llama.cpp cannot express.
    """
    named = (getattr(config, "architectures", None) or ["unknown"])[0]
    if named not in ARCHITECTURES:
        raise InputError(
            f"gguf: the architecture {named} is not supported (supported: {', '.join(ARCHITECTURES)}); serve the "
            "model directory with vLLM or transformers"
        )
    found = ARCHITECTURES[named]
    for key, value in found.fixed.items():
        if getattr(config, key, value) != value:
            raise InputError(
                f"gguf: llama.cpp computes {named} with {key}={value}, but config.json has {getattr(config, key)!r}; "
                "serve the model directory with vLLM or transformers"
            )
    return found


def architecture_metadata(config: Any) -> Metadata:
    """Return the values that describe the network, by their keys without the architecture's name.

    Raises:
        InputError: a kind of rotary position is not supported.
    """
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": config.num_key_value_heads or heads,
        "attention.key_length": head_size,
        "attention.value_length": head_size,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": head_size,
        "vocab_size": config.vocab_size,
        **_rope(config.rope_parameters),
    }


def _plain_rope(_: Mapping[str, Any]) -> Metadata:
    return {}


def _linear_rope(rope: Mapping[str, Any]) -> Metadata:
    return {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}


_ROPES: Mapping[str, Callable[[Mapping[str, Any]], Metadata]] = {
    "default": _plain_rope,
    "linear": _linear_rope,
    "llama3": _plain_rope,  # its factors are a tensor, see `rope_factors`
}


def _rope(rope: Mapping[str, Any]) -> Metadata:
    kind = rope.get("rope_type", "default")
    if kind not in _ROPES:
        raise InputError(
            f"gguf: rotary positions of the type {kind!r} are not supported (supported: {', '.join(_ROPES)}); serve "
            "the model directory with vLLM or transformers"
        )
    return {"rope.freq_base": float(rope["rope_theta"]), **_ROPES[kind](rope)}


def rope_factors(config: Any) -> torch.Tensor | None:
    """Return the [head_size / 2] divisors of the rotary frequencies, or None if they are not changed.

    transformers computes the frequencies, so that there is a single source of the formula.
    """
    rope = config.rope_parameters
    if rope.get("rope_type") != "llama3":
        return None
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    exponents = torch.arange(0, head_size, 2, dtype=torch.int64).float() / head_size
    factors: torch.Tensor = (1.0 / (rope["rope_theta"] ** exponents)) / scaled
    return factors


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Reorder the rows of a projection so that the two halves of each head alternate.

    Args:
        weight: [heads * head_size, ...]; a matrix or a bias.
        heads: number of heads.
    """
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape)
