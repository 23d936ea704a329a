"""Configs of randomly initialized models, by architecture: the sizes of a dense decoder, and what each one adds."""

from collections.abc import Callable, Mapping
from typing import Any

Values = dict[str, Any]

_IMAGE_TOKENS = 4
"""Tokens that stand for pictures. They follow those of the tokenizer."""


def _dense(text: Values) -> Values:
    return text


def _qwen3_moe(text: Values) -> Values:
    return text | _head(text) | _experts(text)


def _gpt_oss(text: Values) -> Values:
    """Sliding windows in every other layer, sinks, and experts with biases."""
    experts = _experts(text)
    wide = {"num_local_experts": experts["num_experts"], "intermediate_size": experts["moe_intermediate_size"]}
    return text | _head(text) | experts | wide | {"sliding_window": 64}


def _qwen3_5(text: Values) -> Values:
    """Gated delta layers, then one of full attention, beside a vision tower."""
    return _beside_vision(text | _hybrid(text), _qwen_vision(text))


def _qwen3_5_moe(text: Values) -> Values:
    """The same with routed experts and a shared one."""
    shared = {"shared_expert_intermediate_size": text["intermediate_size"] // 4}
    return _beside_vision(text | _hybrid(text) | _experts(text) | shared, _qwen_vision(text))


def _gemma3(text: Values) -> Values:
    """Sliding windows in all layers but the last, beside a vision tower."""
    windows = ["sliding_attention"] * (text["num_hidden_layers"] - 1)
    head = _head(text)
    added = {
        "layer_types": [*windows, "full_attention"],
        "sliding_window": 64,
        "query_pre_attn_scalar": head["head_dim"],
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
        "vision_use_head": False,
    }
    first = text["vocab_size"]
    ids = {"image_token_index": first, "boi_token_index": first + 1, "eoi_token_index": first + 2}
    return _beside_vision(text | head | added, vision) | ids | {"mm_tokens_per_image": 1}


CONFIGS: Mapping[str, Callable[[Values], Values]] = {
    "qwen2": _dense,
    "llama": _dense,
    "qwen3": lambda text: text | _head(text),
    "qwen3_moe": _qwen3_moe,
    "gpt_oss": _gpt_oss,
    "qwen3_5": _qwen3_5,
    "qwen3_5_moe": _qwen3_5_moe,
    "gemma3": _gemma3,
}
"""Functions from the values of a dense text config to the whole config, by `model_type`."""


def _head(text: Values) -> Values:
    return {"head_dim": text["hidden_size"] // text["num_attention_heads"]}


def _experts(text: Values) -> Values:
    """Four experts as wide together as the feed-forward layer, two of them active."""
    wide = text["intermediate_size"] // 4
    return {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": wide,
    }


def _hybrid(text: Values) -> Values:
    width = _head(text)["head_dim"]
    pairs = width // 4  # a half of each head is rotated
    return {
        "head_dim": width,
        "layer_types": ["linear_attention"] * (text["num_hidden_layers"] - 1) + ["full_attention"],
        "linear_num_value_heads": text["num_attention_heads"],
        "linear_num_key_heads": text["num_key_value_heads"],
        "linear_key_head_dim": width,
        "linear_value_head_dim": width,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_interleaved": True,
            "mrope_section": [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3],
        },
    }


def _qwen_vision(text: Values) -> Values:
    return {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 14,
        "num_position_embeddings": 16,
        "out_hidden_size": text["hidden_size"],
        "deepstack_visual_indexes": [],
    }


def _beside_vision(text: Values, vision: Values) -> Values:
    first = text["vocab_size"]
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    return {
        "text_config": text | {"vocab_size": first + _IMAGE_TOKENS},
        "vision_config": vision,
        "tie_word_embeddings": text["tie_word_embeddings"],
        **{name: first + number for number, name in enumerate(names)},
    }
