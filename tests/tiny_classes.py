"""Tiny random models of real classes whose files and networks name and store tensors differently."""

from pathlib import Path
from shutil import copyfile
from typing import Any

import torch

TEXT = {
    "vocab_size": 328,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
ROUTED = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1}
LATENT = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
DELTA = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
MAMBA = {
    "layer_types": ["mamba", "attention"],
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
}
NEMOTRON = {
    "layers_block_type": ["mamba", "attention", "moe"],
    "mamba_num_heads": 4,
    "mamba_head_dim": 16,
    "ssm_state_size": 8,
    "n_groups": 1,
    "chunk_size": 16,
    "moe_shared_expert_intermediate_size": 16,
}
JAMBA = {
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "mamba_d_state": 8,
    "mamba_dt_rank": 4,
    "use_mamba_kernels": False,
}
LONGCAT = {
    "num_layers": 1,
    "num_key_value_heads": 4,
    "moe_topk": 2,
    "zero_expert_num": 2,
    "expert_ffn_hidden_size": 16,
}
LONGCAT |= {"ffn_hidden_size": 64}
SHARED = {"shared_expert_intermediate_size": 16}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
QWEN_VISION = {
    "depth": 1,
    "hidden_size": 32,
    "out_hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "patch_size": 14,
    "num_position_embeddings": 16,
    "deepstack_visual_indexes": [0],
    "fullatt_block_indexes": [0],
}
QWEN_IDS = {"image_token_id": 320, "video_token_id": 321, "vision_start_token_id": 322, "vision_end_token_id": 323}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}}
GEMMA4 = {
    "sliding_window": 64,
    "global_head_dim": 8,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 328,
}
LLAMA4 = {**EXPERTS, "intermediate_size_mlp": 64, "moe_layers": [1], "attention_chunk_size": 64}
LLAMA4_VISION = {**VISION, "vision_output_dim": 32, "projector_input_dim": 32, "projector_output_dim": 32}
FIRST_IDS = {"image_token_index": 320, "boi_token_index": 321, "eoi_token_index": 322}


def _beside(vision: dict[str, Any], text: dict[str, Any], **ids: Any) -> dict[str, Any]:
    """The config of a language model with a vision tower."""
    return {"vision_config": vision, "text_config": TEXT | text, **ids}


CLASSES: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": TEXT,
    "GPT2LMHeadModel": TEXT | {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "GPTNeoXForCausalLM": TEXT,
    "Qwen3MoeForCausalLM": TEXT | EXPERTS,
    "MixtralForCausalLM": TEXT | EXPERTS,
    "DeepseekV3ForCausalLM": TEXT | EXPERTS | ROUTED | LATENT | {"num_key_value_heads": 4},
    "GptOssForCausalLM": TEXT | EXPERTS | {"sliding_window": 40},
    "GraniteMoeForCausalLM": TEXT | EXPERTS,
    "MiniMaxForCausalLM": TEXT | EXPERTS | {"layer_types": ["linear_attention", "full_attention"]},
    "Qwen3NextForCausalLM": TEXT | EXPERTS | DELTA | SHARED,
    "Glm4MoeForCausalLM": TEXT | EXPERTS | ROUTED,
    "Lfm2MoeForCausalLM": TEXT | EXPERTS | {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "GraniteMoeHybridForCausalLM": TEXT | EXPERTS | MAMBA | {"shared_intermediate_size": 32},
    "NemotronHForCausalLM": TEXT | EXPERTS | ROUTED | NEMOTRON,
    "JambaForCausalLM": TEXT | EXPERTS | JAMBA,
    "LongcatFlashForCausalLM": TEXT | ROUTED | LATENT | LONGCAT,
    "LagunaForCausalLM": TEXT | EXPERTS | SHARED,
    "Gemma3ForConditionalGeneration": _beside(
        VISION | {"model_type": "siglip_vision_model"},
        {"sliding_window": 64, "query_pre_attn_scalar": 8},
        mm_tokens_per_image=1,
        **FIRST_IDS,
    ),
    "Gemma4ForConditionalGeneration": _beside(
        VISION | {"model_type": "gemma4_vision", "head_dim": 16, "num_key_value_heads": 2, "global_head_dim": 16},
        GEMMA4,
        audio_config=None,
        image_token_id=320,
        boi_token_id=321,
        eoi_token_id=322,
        video_token_id=323,
    ),
    "Llama4ForConditionalGeneration": _beside(LLAMA4_VISION, LLAMA4, **FIRST_IDS),
    "Qwen3_5ForConditionalGeneration": _beside(QWEN_VISION, DELTA, **QWEN_IDS),
    "Qwen3_5MoeForConditionalGeneration": _beside(QWEN_VISION, EXPERTS | DELTA | SHARED, **QWEN_IDS),
    "Qwen2_5_VLForConditionalGeneration": _beside(QWEN_VISION, MROPE, **QWEN_IDS),
    "Qwen3VLForConditionalGeneration": _beside(QWEN_VISION, MROPE, **QWEN_IDS),
    "Qwen3VLMoeForConditionalGeneration": _beside(QWEN_VISION, EXPERTS | MROPE, **QWEN_IDS),
    "LlavaForConditionalGeneration": _beside(
        VISION | {"model_type": "clip_vision_model"}, {"model_type": "llama"}, image_token_index=320
    ),
    "Mistral3ForConditionalGeneration": _beside(
        VISION | {"model_type": "pixtral", "head_dim": 16}, {"model_type": "mistral"}, image_token_index=320
    ),
    "InternVLForConditionalGeneration": _beside(
        VISION | {"image_size": [28, 28], "patch_size": [14, 14]}, {"model_type": "qwen2"}, image_token_id=320
    ),
}


def build_class(name: str, tokenizer: Path, folder: Path, values: dict[str, Any] | None = None) -> Path:
    """A model directory of the class of this name; the tokenizer is copied from another.

    Args:
        values: of its configuration; those of `CLASSES` if left out.
    """
    import transformers

    kind = getattr(transformers, name)
    torch.manual_seed(0)
    network = kind(kind.config_class(pad_token_id=0, eos_token_id=0, bos_token_id=0, **(values or CLASSES[name])))
    for key, weight in network.named_parameters():
        if weight.dim() > 1 and "A_log" not in key:
            torch.nn.init.normal_(weight, std=0.1)
    network.save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        copyfile(tokenizer / file, folder / file)
    (folder / "preprocessor_config.json").write_text('{"do_resize": true}', encoding="utf-8")
    return folder
