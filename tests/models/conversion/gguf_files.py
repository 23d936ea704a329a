"""GGUF files of tiny models, written by the rules of the format, independent of transformers."""

from pathlib import Path
from typing import Any

import torch
from gguf import GGUFWriter

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
SENTENCEPIECE = [
    *[("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)],
    *[(token, 0.0, 6) for token in TOKENS],
    *[("▁a", -1.0, 1), ("in", -2.0, 1), ("▁p", -3.0, 1), ("▁pa", -4.0, 1), ("▁pain", -5.0, 1), ("年", -6.0, 1)],
    *[(letter, -20.0 - place, 1) for place, letter in enumerate("▁abcdefghijklmnopqrstuvwxyz0123456789")],
]
"""A SentencePiece vocabulary: token, score, type; "ain" can be reached in no order of merges but the right one."""


def network(architecture: str, vocabulary: int) -> Any:
    """A tiny causal model with weights large enough that a wrong order of rows is seen."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rope_theta=5000.0,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, weight in model.named_parameters():
        if "norm" not in name:
            weight.data.normal_(0, 0.3)
    return model


def write(path: Path, model: Any, tokenizer: dict[str, Any], **more: Any) -> Path:
    """Write a model as llama.cpp's own converter does, with the halves of Llama's heads interleaved in q and k.

    Args:
        path: the file.
        model: the network.
        tokenizer: keys below `tokenizer.`, without that word.
        more: further metadata under whole names, with "__" for dots; None leaves a key out.
    """
    config = model.config
    name = config.model_type
    writer = GGUFWriter(str(path), more.pop("architecture", name))
    facts: dict[str, Any] = {
        f"{name}.context_length": config.max_position_embeddings,
        f"{name}.embedding_length": config.hidden_size,
        f"{name}.block_count": config.num_hidden_layers,
        f"{name}.feed_forward_length": config.intermediate_size,
        f"{name}.attention.head_count": config.num_attention_heads,
        f"{name}.attention.head_count_kv": config.num_key_value_heads,
        f"{name}.attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        f"{name}.rope.freq_base": config.rope_parameters["rope_theta"],
    }
    facts |= {f"tokenizer.{key}": value for key, value in tokenizer.items()}
    tensors = more.pop("tensors", {})
    facts |= {key.replace("__", "."): value for key, value in more.items()}
    for key, value in facts.items():
        _add(writer, key, value)
    for key, weight in model.state_dict().items():
        if key != "lm_head.weight":
            writer.add_tensor(_gguf_name(key), _gguf_rows(key, weight, config).numpy())
    for key, weight in tensors.items():
        writer.add_tensor(key, weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if value is None:
        return
    adders = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    adders.get(type(value), writer.add_array)(key, value)


def _gguf_name(key: str) -> str:
    stem, _, ending = key.rpartition(".")
    prefix, _, rest = stem.removeprefix("model.layers.").partition(".")
    return f"blk.{prefix}.{NAMES[rest]}.{ending}" if prefix.isdigit() else f"{NAMES[stem]}.{ending}"


def _gguf_rows(key: str, weight: torch.Tensor, config: Any) -> torch.Tensor:
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(key.split(".")[-2])
    if config.model_type != "llama" or heads is None:
        return weight.contiguous()
    halves = weight.view(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return halves.transpose(1, 2).reshape(weight.shape).contiguous()


def byte_level(merges: list[str], pre: str, **more: Any) -> dict[str, Any]:
    """A byte-level BPE: three special tokens, the 256 bytes, and what the merges make."""
    from jmedllm.models.tokenizer.pieces import BYTES

    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *BYTES, *(m.replace(" ", "") for m in merges)]
    return {
        "ggml.model": "gpt2",
        "ggml.pre": pre,
        "ggml.tokens": tokens,
        "ggml.token_type": [3, 3, 3] + [1] * (len(tokens) - 3),
        "ggml.merges": merges,
        "ggml.bos_token_id": 1,
        "ggml.eos_token_id": 2,
        "ggml.unknown_token_id": 0,
        "ggml.padding_token_id": 2,
        **more,
    }


def sentencepiece(**more: Any) -> dict[str, Any]:
    """A SentencePiece BPE with byte fallback."""
    tokens, scores, types = zip(*SENTENCEPIECE, strict=True)
    return {
        "ggml.model": "llama",
        "ggml.pre": "default",
        "ggml.tokens": list(tokens),
        "ggml.scores": list(scores),
        "ggml.token_type": list(types),
        "ggml.bos_token_id": 1,
        "ggml.eos_token_id": 2,
        "ggml.unknown_token_id": 0,
        **more,
    }
