"""Bytes of a token, worked out by hand from the published configs."""

import pytest
import torch
from transformers import AutoConfig, PretrainedConfig

from jmedllm.models.memory import TokenBytes, token_bytes

QWEN2_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
}
LLAMA3_70B = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("qwen2", QWEN2_7B, TokenBytes(forward_bytes=532_480, cache_bytes=57_344)),
        ("llama", LLAMA3_70B, TokenBytes(forward_bytes=887_296, cache_bytes=327_680)),
        ("qwen3", {"head_dim": 128, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
                   "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151936},
         TokenBytes(forward_bytes=(8192 + 9216 + 151936 + 57344) * 2, cache_bytes=57344 * 2)),
        ("gpt2", {}, TokenBytes(forward_bytes=(6144 + 9216 + 50257 + 18432) * 2, cache_bytes=18432 * 2)),
    ],
)  # fmt: skip
def test_bytes_of_a_token(kind: str, values: dict[str, int], expected: TokenBytes) -> None:
    config: PretrainedConfig = AutoConfig.for_model(kind, **values)
    assert token_bytes(config, torch.bfloat16) == expected
