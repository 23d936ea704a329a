"""Tiny models of the real classes of today's bases, for the table in docs/architectures.md."""

from typing import Any

from tiny_classes import CLASSES, DELTA, EXPERTS, ROUTED, SHARED, TEXT

MAMBA = {
    "layer_types": ["mamba", "attention"],
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_d_state": 8,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
    "shared_intermediate_size": 16,
}
HYBRID = TEXT | {"tie_word_embeddings": True}

BASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", TEXT),
    "mistral": ("MistralForCausalLM", TEXT | {"sliding_window": 8}),
    "qwen2": ("Qwen2ForCausalLM", TEXT),
    "qwen3": ("Qwen3ForCausalLM", TEXT),
    "qwen3_moe": ("Qwen3MoeForCausalLM", TEXT | EXPERTS),
    "qwen3_5_text": ("Qwen3_5ForCausalLM", TEXT | DELTA),
    "qwen3_5": ("Qwen3_5ForConditionalGeneration", CLASSES["Qwen3_5ForConditionalGeneration"]),
    "qwen3_5_moe": (
        "Qwen3_5MoeForConditionalGeneration",
        CLASSES["Qwen3_5MoeForConditionalGeneration"],
    ),
    "qwen3_next": ("Qwen3NextForCausalLM", TEXT | EXPERTS | DELTA | SHARED),
    "gpt_oss": ("GptOssForCausalLM", TEXT | EXPERTS | {"sliding_window": 8}),
    "gemma2": ("Gemma2ForCausalLM", TEXT | {"sliding_window": 8}),
    "gemma3_text": ("Gemma3ForCausalLM", TEXT | {"sliding_window": 8}),
    "gemma3": ("Gemma3ForConditionalGeneration", CLASSES["Gemma3ForConditionalGeneration"]),
    "olmo2": ("Olmo2ForCausalLM", TEXT),
    "phi3": ("Phi3ForCausalLM", TEXT),
    "cohere": ("CohereForCausalLM", TEXT | {"tie_word_embeddings": True}),
    "granite": ("GraniteForCausalLM", TEXT | {"logits_scaling": 8.0}),
    "lfm2": ("Lfm2ForCausalLM", TEXT | {"layer_types": ["conv", "full_attention"], "block_ff_dim": 64}),
    "granitemoehybrid": ("GraniteMoeHybridForCausalLM", TEXT | EXPERTS | MAMBA),
    "deepseek_v3": ("DeepseekV3ForCausalLM", CLASSES["DeepseekV3ForCausalLM"]),
    "glm4_moe": ("Glm4MoeForCausalLM", TEXT | EXPERTS | ROUTED),
    "minimax": ("MiniMaxForCausalLM", CLASSES["MiniMaxForCausalLM"]),
}
"""Class in transformers and values of its configuration, by `model_type`."""
