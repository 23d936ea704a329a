"""Which architectures can be trained packed, tried on small copies of them."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from jmedllm.errors import InputError
from jmedllm.models.small_copy import small_copies
from jmedllm.training.trainable import TOLERANCE, differences, require_trainable

CPU = torch.device("cpu")

TRAINABLE = [
    ("llama", {}),
    ("qwen2", {}),
    ("qwen3", {}),
    ("qwen2_moe", {}),
    ("qwen3_moe", {}),
    ("mistral", {}),
    ("mixtral", {}),
    ("gemma", {}),
    ("gemma3_text", {}),
    ("gemma3", {}),  # MedGemma's class: its text part is tried
    ("phi3", {}),
    ("olmo2", {}),
    ("glm4_moe", {}),
    ("lfm2", {"layer_types": ["full_attention"] * 32}),
    ("deepseek_v3", {}),  # latent attention, groups of experts
    ("glm4_moe_lite", {}),
    ("gemma4", {}),  # sizes that differ from layer to layer
    ("qwen3_vl", {}),  # has no class for its text part alone
    # Its loss is the network's own only because its configuration scales by 1.
    ("granite", {}),
    ("llama4", {}),
]

GRANITE_4: dict[str, Any] = {
    "hidden_size": 4096,
    "num_local_experts": 72,
    "num_experts_per_tok": 10,
    "shared_intermediate_size": 1536,
    "num_hidden_layers": 40,
    "layer_types": ["attention" if number in (5, 15, 25, 35) else "mamba" for number in range(40)],
    "mamba_n_heads": 128,
    "mamba_d_head": 64,
    "logits_scaling": 16,
}
"""Granite 4.0 H Small: copies of its full width took 3 GB."""

REFUSED = [
    ("lfm2", {"layer_types": ["conv", "conv", "full_attention"] + ["conv"] * 29}, "see one another"),
    # The layers that let them come late.
    ("lfm2", {"layer_types": ["full_attention"] * 30 + ["conv"] * 2}, "see one another"),
    ("qwen3_next", {}, "see one another"),
    ("qwen3_5_text", {}, "see one another"),
    ("qwen3_5_moe_text", {}, "see one another"),
    ("gpt_oss", {}, "see one another"),
    ("mamba", {}, "see one another"),
    ("minimax", {}, "see one another"),
    ("opt", {}, "see one another"),
    ("bloom", {}, "see one another"),
    ("gemma2", {}, "changes its logits after the head"),
    ("cohere", {}, "changes its logits after the head"),
    ("granite", {"logits_scaling": 8.0}, "changes its logits after the head"),
    ("granitemoehybrid", GRANITE_4, "changes its logits after the head"),
    ("gemma3n", {}, "changes its logits after the head"),
]


@pytest.mark.parametrize(("kind", "changes"), TRAINABLE)
def test_samples_that_do_not_see_one_another_can_be_trained(kind: str, changes: dict[str, Any]) -> None:
    require_trainable(AutoConfig.for_model(kind, **changes), CPU)


@pytest.mark.parametrize(("kind", "changes", "reason"), REFUSED)
def test_what_cannot_be_trained_is_refused_with_the_reason(kind: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=f"architecture '{kind}' .*{reason}.*not support yet") as refused:
        require_trainable(AutoConfig.for_model(kind, **changes), CPU)
    assert "Qwen" not in str(refused.value)  # a user of Qwen3.5 has chosen one


def test_attention_that_usual_weights_hide_is_found() -> None:
    # Short convolutions of 3 tokens, weights as transformers draws them: differences of 4e-3, under the tolerance
    # of 0.05 that once let this architecture through.
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320}
    layers = {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"], "block_ff_dim": 64}
    config = AutoConfig.for_model("lfm2", **sizes, **layers)
    torch.manual_seed(0)
    usual = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    assert differences(usual).packed > 10 * TOLERANCE
    with pytest.raises(InputError, match="see one another"):
        require_trainable(config, CPU)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [*TRAINABLE, *((kind, changes) for kind, changes, _ in REFUSED if kind not in ("opt", "bloom"))],
)
def test_the_copy_that_is_tried_is_small(kind: str, changes: dict[str, Any]) -> None:
    network = next(small_copies(AutoConfig.for_model(kind, **changes)))
    assert sum(weight.numel() for weight in network.parameters()) < 2_000_000


def test_a_copy_as_large_as_the_model_is_not_built() -> None:
    # Without narrower layers its copies have 16 experts of full width.
    assert len(list(small_copies(AutoConfig.for_model("llama4")))) == 1
