"""Every architecture gives its own numbers and its own text, by whichever methods it supports."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from jmedllm.models.backends.base import Request
from jmedllm.models.backends.completion import Ends
from jmedllm.models.backends.transformers.capabilities import detect_capabilities
from jmedllm.models.backends.transformers.generation import generated as generated_ids
from jmedllm.models.backends.transformers.model import TransformersModel
from jmedllm.models.backends.transformers.replies import Decoder
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.models.tokenizer.load import load_tokenizer
from plain_generation import LIKE_PLAIN, REQUESTS, complete, generated, score, score_alone

SIZES = {
    "vocab_size": 320,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "head_dim": 8,
    "pad_token_id": 0,
    "eos_token_id": 0,
    "bos_token_id": 0,
}
WINDOW = {"sliding_window": 40}
MIXED = WINDOW | {"num_hidden_layers": 6}
MAMBA = {"state_size": 8, "time_step_rank": 4}
MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 16, "mamba_n_groups": 1}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
DELTA = {
    "num_hidden_layers": 4,
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
LONG = {
    "original_max_position_embeddings": 48,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "original_max_position_embeddings": 48,
    },
}
TREES, ROWS, STATES, ALONE = ("trees", "joined"), ("rows", "joined"), ("rows", "generated"), ("alone", "alone")
"""How an architecture is read and how it writes."""
ARCHITECTURES: dict[str, tuple[tuple[str, str], dict[str, Any]]] = {
    "llama": (TREES, {}),
    "qwen3": (TREES, {}),
    "olmo2": (TREES, {}),
    "phi3": (TREES, {}),
    "gemma": (TREES, {}),
    "gpt2": (TREES, {}),
    "gpt_neox": (TREES, {}),
    "opt": (TREES, {}),
    "qwen2_moe": (TREES, EXPERTS | {"shared_expert_intermediate_size": 32}),
    "mistral window": (TREES, WINDOW),
    "phi3 window": (TREES, WINDOW),
    "gemma2 window": (TREES, MIXED | {"query_pre_attn_scalar": 8}),
    "gemma3_text window": (TREES, MIXED | {"query_pre_attn_scalar": 8}),
    "gpt_oss window": (TREES, WINDOW | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "llama4_text chunks": (TREES, {"attention_chunk_size": 40}),
    "phi3 longrope": (TREES, LONG),
    "mpt": (ROWS, {}),
    "bloom": (ROWS, {}),
    "gpt_neo": (ROWS, {"attention_types": [[["global", "local"], 1]], "num_layers": 2, "window_size": 40}),
    "mamba": (STATES, MAMBA),
    "mamba2": (STATES, {"state_size": 8, "num_heads": 8, "n_groups": 1, "chunk_size": 16}),
    "falcon_mamba": (STATES, MAMBA),
    "falcon_h1": (STATES, MAMBA2 | {"mamba_d_ssm": 64}),
    "bamba": (STATES, MAMBA2 | {"attn_layer_indices": [1]}),
    "granitemoehybrid": (
        STATES,
        MAMBA2 | {"layer_types": ["mamba", "attention"], "num_local_experts": 0, "shared_intermediate_size": 64},
    ),
    "jamba": (
        STATES,
        {"mamba_d_state": 8, "mamba_dt_rank": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2},
    ),
    "zamba2": (
        STATES,
        {
            "layers_block_type": ["mamba", "hybrid"],
            "hybrid_layer_ids": [1],
            "mamba_d_state": 8,
            "mamba_headdim": 8,
            "n_mamba_heads": 8,
            "mamba_ngroups": 1,
            "chunk_size": 16,
            "num_mem_blocks": 1,
        },
    ),
    "lfm2": (STATES, {"layer_types": ["conv", "full_attention"], "block_ff_dim": 64, "block_multiple_of": 8}),
    "qwen3_next": (STATES, DELTA | EXPERTS | {"shared_expert_intermediate_size": 32}),
    "qwen3_5_text": (STATES, DELTA),
    "recurrent_gemma": (ALONE, {"num_hidden_layers": 3, "lru_width": 32, "attention_window_size": 40}),
    "rwkv": (ALONE, {"attention_hidden_size": 32}),
    "minimax": (ALONE, {"num_local_experts": 2}),
    "openai-gpt": (ALONE, {}),
    "git": (("trees", "alone"), {}),
    "deepseek_v4": (ALONE, {}),
}
SHORT = Request("5", "Scurvy?", "5", ("iron", "vitamin C"))
"""It fits every window, and is more than one token: of one, RecurrentGemma remembers what it read before."""


def build(name: str, more: dict[str, Any], dtype: torch.dtype, tokenizer: Any) -> TransformersModel:
    """A network with weights large enough to separate right from wrong."""
    config = AutoConfig.for_model(name.split()[0], **SIZES | more)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    for key, weight in network.named_parameters():
        if weight.dim() > 1 and "A_log" not in key:
            torch.nn.init.normal_(weight, std=0.2)
    network.generation_config = GenerationConfig()
    device = torch.device("cpu")
    capabilities = detect_capabilities(network, tokenizer, device)
    return TransformersModel(name, network, tokenizer, device, 512, capabilities, ends=Ends(frozenset({0})))


@pytest.mark.parametrize(
    "dtype",
    [
        pytest.param(torch.float32, id="float32"),
        pytest.param(torch.bfloat16, id="bfloat16", marks=pytest.mark.exhaustive),
    ],
)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_gives_its_own_numbers_and_text(name: str, dtype: torch.dtype, tiny_model: Path) -> None:
    way, more = ARCHITECTURES[name]
    model = build(name, more, dtype, load_tokenizer(tiny_model))
    capabilities = model.capabilities
    reading = "trees" if capabilities.longest_tree else "rows" if capabilities.padding else "alone"
    assert (reading, "joined" if capabilities.joining else "generated" if capabilities.generating else "alone") == way
    requests = [*REQUESTS[:3], SHORT]
    rounding = LIKE_PLAIN if dtype == torch.float32 else {"rel": 0.03}
    for request, scores in zip(requests, score(model, requests), strict=True):
        expected = [score_alone(model, request.prompt, choice) for choice in request.choices]
        assert scores == pytest.approx(expected, **rounding)
    if dtype == torch.float32:
        together = complete(model, requests, 16)
        assert [c.text for c in together] == [generated(model, request.prompt, 16) for request in requests]


def test_completions_of_recurrent_networks_end_row_by_row(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("lfm2", ARCHITECTURES["lfm2"][1], torch.float32, load_tokenizer(tiny_model))
    model = replace(model, ends=Ends())
    whole = complete(model, REQUESTS, 24)
    assert all(completion.truncated for completion in whole)

    [prompt] = encode(model.tokenizer, [REQUESTS[0].prompt])
    fifth = int(generated_ids(model.network, [prompt], 0, max_new_tokens=5)[0, -1])
    ended = complete(replace(model, ends=Ends(frozenset({fifth}))), REQUESTS, 24)
    assert not ended[0].truncated

    monkeypatch.setattr(Decoder, "_is_over", lambda _, reply: len(reply.written) > len(reply.prompt) % 9)
    final = complete(model, REQUESTS, 24)
    assert not any(completion.truncated for completion in final)
    assert len({len(completion.text) for completion in final}) > 1
    assert final == complete(replace(model, capabilities=replace(model.capabilities, generating=False)), REQUESTS, 24)
    for before, *after in zip(whole, ended, final, strict=True):
        assert all(before.decoded.startswith(completion.decoded.rstrip("\ufffd")) for completion in after)
