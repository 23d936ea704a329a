"""How the packed samples of each architecture are isolated, tried on small copies of them."""

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from jmedllm.errors import InputError
from jmedllm.models.small_copy import small_copies
from jmedllm.training.loss import LOGIT_CHANGES
from jmedllm.training.trainable import TOLERANCE, choose_isolation, differences

CPU = torch.device("cpu")

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

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {}, "positions"),
    ("qwen2", {}, "positions"),
    ("qwen3", {}, "positions"),
    ("qwen2_moe", {}, "positions"),
    ("qwen3_moe", {}, "positions"),
    ("mistral", {"sliding_window": 8}, "positions"),
    ("mixtral", {}, "positions"),
    ("gemma", {}, "positions"),
    ("gemma2", {"sliding_window": 8}, "positions"),  # soft-capped logits
    ("gemma3_text", {"sliding_window": 8}, "positions"),
    ("gemma3", {}, "positions"),  # MedGemma's class: its text part is tried
    ("gemma3n", {}, "positions"),
    ("gemma4", {}, "positions"),  # sizes that differ from layer to layer
    ("phi3", {}, "positions"),
    ("olmo2", {}, "positions"),
    ("cohere", {}, "positions"),  # scaled logits
    ("cohere2", {}, "positions"),
    ("granite", {"logits_scaling": 8.0}, "positions"),
    ("deepseek_v3", {}, "positions"),  # latent attention, groups of experts
    ("glm4_moe", {}, "positions"),
    ("glm4_moe_lite", {}, "positions"),
    ("qwen3_vl", {}, "positions"),  # has no class for its text part alone
    ("gpt2", {}, "positions"),
    ("llama4", {}, "positions"),
    ("gpt_oss", {}, "masks"),
    ("gpt_oss", {"sliding_window": 8}, "masks"),
    ("opt", {}, "masks"),
    ("lfm2", {"layer_types": ["full_attention"] * 32}, "positions"),
    ("lfm2", {"layer_types": ["conv", "conv", "full_attention"] + ["conv"] * 29}, "mixers"),
    # The layers that need a reset come late.
    ("lfm2", {"layer_types": ["full_attention"] * 30 + ["conv"] * 2}, "mixers"),
    ("qwen3_next", {}, "mixers"),
    ("qwen3_5_text", {}, "mixers"),
    ("qwen3_5_moe_text", {}, "mixers"),
    ("granitemoehybrid", GRANITE_4, "masks_and_mixers"),
    ("falcon_h1", {"lm_head_multiplier": 0.5}, "mixers"),
    ("bamba", {}, "mixers"),
    ("jamba", {}, "mixers"),
    ("nemotron_h", {}, "mixers"),
    ("mamba", {}, "mixers"),
    ("minimax", {}, "samples"),  # a state without a convolution
    ("bloom", {}, "samples"),  # positions from the attention mask alone
]


ALWAYS = ("lfm2", "qwen3_5_moe_text", "minimax", "gpt_oss")
"""Architectures that positions do not isolate, of the usual tests; the exhaustive tests take all."""


@pytest.mark.parametrize(
    ("kind", "changes", "name"),
    [
        case if case[2] == "positions" or case[0] in ALWAYS else pytest.param(*case, marks=pytest.mark.exhaustive)
        for case in CASES
    ],
)
def test_the_cheapest_exact_isolation_is_chosen(kind: str, changes: dict[str, Any], name: str) -> None:
    assert choose_isolation(AutoConfig.for_model(kind, **changes), CPU) == name


@pytest.mark.exhaustive
@pytest.mark.parametrize(("kind", "changes"), [(kind, changes) for kind, changes, name in CASES if "mixers" in name])
def test_each_sample_in_a_row_of_its_own_is_exact_too(kind: str, changes: dict[str, Any]) -> None:
    network = next(small_copies(AutoConfig.for_model(kind, **changes)))
    assert differences(network)["samples"].is_exact


def test_attention_that_usual_weights_hide_is_found() -> None:
    # Short convolutions of 3 tokens, weights as transformers draws them: differences of 4e-3, under the tolerance
    # of 0.05 that once let this architecture through.
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320}
    layers = {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"], "block_ff_dim": 64}
    config = AutoConfig.for_model("lfm2", **sizes, **layers)
    torch.manual_seed(0)
    usual = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    assert differences(usual)["positions"].logits > 10 * TOLERANCE
    assert choose_isolation(config, CPU) == "mixers"


def test_logits_changed_in_an_unknown_way_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(LOGIT_CHANGES, "final_logit_softcapping")
    config = AutoConfig.for_model("gemma2", final_logit_softcapping=7.0)
    with pytest.raises(InputError, match="'gemma2' changes its logits after the head in an unknown way"):
        choose_isolation(config, CPU)


@pytest.mark.parametrize(("kind", "changes", "_"), [case for case in CASES if case[0] not in ("opt", "bloom")])
def test_the_copy_that_is_tried_is_small(kind: str, changes: dict[str, Any], _: str) -> None:
    network = next(small_copies(AutoConfig.for_model(kind, **changes)))
    assert sum(weight.numel() for weight in network.parameters()) < 2_000_000


def test_a_copy_as_large_as_the_model_is_not_built() -> None:
    # Without narrower layers its copies have 16 experts of full width.
    assert len(list(small_copies(AutoConfig.for_model("llama4")))) == 1
