"""Tiny configurations of the classes that can be exported as GGUF files."""

from collections.abc import Callable
from typing import Any

import tiny_classes
from tiny_classes import CLASSES, DELTA, EXPERTS, MROPE, SHARED, TEXT

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
YARN_BY_LAYER = {"full_attention": YARN, "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0}}
GEMMA4 = tiny_classes.GEMMA4 | {"hidden_size_per_layer_input": 64, "intermediate_size": 256}
SIX = {"num_hidden_layers": 6, "sliding_window": 40}
GEMMA3 = SIX | {"intermediate_size": 256} | {"query_pre_attn_scalar": 8, "hidden_activation": "gelu_pytorch_tanh"}
OSS_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 150_000.0}}
OSS_YARN = {
    "rope_parameters": {
        "rope_type": "yarn",
        "rope_theta": 150_000.0,
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
        "truncate": False,
    }
}
LONG = {
    "max_position_embeddings": 2048,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "original_max_position_embeddings": 512,
        "short_factor": [1.0, 1.5, 2.0, 3.0],
        "long_factor": [2.0, 4.0, 8.0, 16.0],
    },
}
PARTIAL = {
    "max_position_embeddings": 2048,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10_000.0,
        "original_max_position_embeddings": 512,
        "partial_rotary_factor": 0.75,
        "short_factor": [1.0, 1.5, 2.0],
        "long_factor": [2.0, 4.0, 8.0],
    },
}
NARROW = {"query_pre_attn_scalar": 8, "sliding_window": 40, "intermediate_size": 256}
GRANITE = {
    "attention_multiplier": 0.25,
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
}
QWEN35 = {
    "head_dim": 32,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10_000.0,
        "partial_rotary_factor": 0.25,
        "mrope_section": [2, 1, 1],
    },
}


def with_text(values: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
    """The values of a class with a vision tower, with these for its language model."""
    return lambda name: CLASSES[name] | {"text_config": TEXT | values}


def values_of(case: str) -> tuple[str, dict[str, Any]]:
    """Class and configuration of a case."""
    name, values = CASES[case]
    return name, values(name) if callable(values) else TEXT | values


CASES: dict[str, tuple[str, Any]] = {
    "llama": ("LlamaForCausalLM", {}),
    "llama, biased": ("LlamaForCausalLM", {"attention_bias": True}),
    "llama, tied": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "llama 3 rope": ("LlamaForCausalLM", {"rope_parameters": LLAMA3}),
    "mistral": ("MistralForCausalLM", {"sliding_window": None}),
    "mistral, wide heads": ("MistralForCausalLM", {"sliding_window": None, "head_dim": 32}),
    "mixtral": ("MixtralForCausalLM", {**EXPERTS, "sliding_window": None}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3ForCausalLM", {"head_dim": 16}),
    "qwen3, linear rope": (
        "Qwen3ForCausalLM",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}},
    ),
    "qwen3, yarn": ("Qwen3ForCausalLM", {"head_dim": 32, "rope_parameters": YARN}),
    "llama, yarn": ("LlamaForCausalLM", {"rope_parameters": YARN}),
    "qwen3 moe": ("Qwen3MoeForCausalLM", {**EXPERTS, "norm_topk_prob": True}),
    "gemma": ("GemmaForCausalLM", {"hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True}),
    "gemma 2": ("Gemma2ForCausalLM", {**NARROW, "tie_word_embeddings": True}),
    "gemma 3": ("Gemma3ForCausalLM", {**GEMMA3, "tie_word_embeddings": True}),
    "gemma 3, linear rope": (
        "Gemma3ForCausalLM",
        {
            **GEMMA3,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
        },
    ),
    "gemma 4": ("Gemma4ForCausalLM", GEMMA4),
    "gemma 4, wide heads and shared keys": (
        "Gemma4ForCausalLM",
        {
            **GEMMA4,
            "num_hidden_layers": 4,
            "global_head_dim": 16,
            "num_kv_shared_layers": 2,
            "use_double_wide_mlp": True,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "final_logit_softcapping": 30.0,
        },
    ),
    "gemma 4, keys as values": (
        "Gemma4ForCausalLM",
        {
            **GEMMA4,
            "hidden_size_per_layer_input": 0,
            "attention_k_eq_v": True,
            "num_global_key_value_heads": 1,
            "global_head_dim": 16,
        },
    ),
    "gemma 4 with a vision tower": ("Gemma4ForConditionalGeneration", with_text(GEMMA4)),
    "gpt-oss": ("GptOssForCausalLM", {**EXPERTS, "sliding_window": 40, **OSS_ROPE}),
    "gpt-oss, yarn": ("GptOssForCausalLM", {**EXPERTS, "head_dim": 64, "sliding_window": 128, **OSS_YARN}),
    "mistral, within its window": ("MistralForCausalLM", {"sliding_window": 300}),
    "phi 3, within its window": ("Phi3ForCausalLM", {"sliding_window": 300}),
    "phi 3, longrope": ("Phi3ForCausalLM", {"sliding_window": None, **LONG}),
    "smollm3": ("SmolLM3ForCausalLM", {"num_hidden_layers": 4, "no_rope_layers": [1, 1, 1, 0]}),
    "phi 3": ("Phi3ForCausalLM", {"sliding_window": None}),
    "olmo 2": ("Olmo2ForCausalLM", {}),
    "olmo 3": ("Olmo3ForCausalLM", {"num_hidden_layers": 4, "sliding_window": 40}),
    "olmo 3, yarn": (
        "Olmo3ForCausalLM",
        {"num_hidden_layers": 4, "sliding_window": 40, "rope_parameters": YARN_BY_LAYER},
    ),
    "phi 4 mini": ("Phi3ForCausalLM", {"sliding_window": None, "head_dim": 8, "tie_word_embeddings": True, **PARTIAL}),
    "qwen3, plain yarn": ("Qwen3ForCausalLM", {"head_dim": 32, "rope_parameters": YARN | {"beta_fast": 16.0}}),
    "granite": ("GraniteForCausalLM", GRANITE),
    "cohere": ("CohereForCausalLM", {"tie_word_embeddings": True, "logit_scale": 0.25}),
    "cohere 2": (
        "Cohere2ForCausalLM",
        {"num_hidden_layers": 4, "sliding_window": 40, "tie_word_embeddings": True, "logit_scale": 0.25},
    ),
    "gemma 3 with a vision tower": ("Gemma3ForConditionalGeneration", with_text(GEMMA3)),
    "qwen3.5 with a vision tower": ("Qwen3_5ForConditionalGeneration", with_text(DELTA | QWEN35)),
    "qwen3.5 moe with a vision tower": (
        "Qwen3_5MoeForConditionalGeneration",
        with_text(DELTA | QWEN35 | EXPERTS | SHARED),
    ),
    "qwen2.5 with a vision tower": ("Qwen2_5_VLForConditionalGeneration", with_text(MROPE)),
    "qwen3 with a vision tower": ("Qwen3VLForConditionalGeneration", with_text(MROPE)),
    "qwen3 moe with a vision tower": ("Qwen3VLMoeForConditionalGeneration", with_text(EXPERTS | MROPE)),
    "mistral 3": ("Mistral3ForConditionalGeneration", with_text({"model_type": "mistral", "sliding_window": None})),
    "qwen3.5": ("Qwen3_5ForCausalLM", DELTA | QWEN35),
    "qwen3.5 moe": ("Qwen3_5MoeForCausalLM", DELTA | QWEN35 | EXPERTS | SHARED),
}
