"""Adapters on the experts of real classes: what they change, peft alone loads them, merge writes them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from test_merge_classes import CPU, FLOAT32, TEXTS, by_transformers, logits, save, train

from jmedllm.deploy.delta import left_frozen
from jmedllm.deploy.merge import merge
from jmedllm.deploy.preflight import require_mergeable
from jmedllm.errors import InputError
from jmedllm.models.experts import expert_layers
from jmedllm.models.loading import load_adapter, load_network, load_structure
from jmedllm.training.lora import AdapterConfig, add_adapter, add_adapter_layers

ModelOf = Callable[[str], Path]

EXPERTS = {"experts.gate_up_proj", "experts.down_proj"}
SHARED = {f"shared_experts.{name}_proj.weight" for name in ("gate", "up", "down")}
DENSE = {f"mlp.{name}_proj.weight" for name in ("gate", "up", "down")}

# class: parameters that peft gets by name; it would take the layers of a shared expert or dense layer for experts
CLASSES = {
    "Qwen3MoeForCausalLM": EXPERTS,
    "MixtralForCausalLM": EXPERTS,
    "GptOssForCausalLM": EXPERTS,
    "DeepseekV3ForCausalLM": EXPERTS | SHARED | DENSE,
    "Glm4MoeForCausalLM": EXPERTS | SHARED | DENSE,
    "Qwen3NextForCausalLM": EXPERTS | {name.replace("experts", "expert") for name in SHARED},
    "Qwen3_5MoeForConditionalGeneration": EXPERTS,
    "GraniteMoeHybridForCausalLM": EXPERTS,
    "Lfm2MoeForCausalLM": EXPERTS,
}

SAMPLE = ("Qwen3MoeForCausalLM", "GptOssForCausalLM", "DeepseekV3ForCausalLM", "Qwen3_5MoeForConditionalGeneration")
EACH = [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.exhaustive) for name in CLASSES]


def tensor_shapes(adapter: Path) -> dict[str, list[int]]:
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


def divergence(expected: torch.Tensor, found: torch.Tensor) -> float:
    p, q = expected.double().log_softmax(-1), found.double().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean().item()


@pytest.mark.parametrize("name", EACH)
def test_experts_are_adapted_merged_and_loaded_by_peft_alone(name: str, model_of: ModelOf, tmp_path: Path) -> None:
    from peft import PeftModel

    base = model_of(name)
    network = load_network(base, "auto", CPU)
    kind = type(network)
    network = add_adapter(network, AdapterConfig(r=4, alpha=8), seed=0)
    train(network)
    trained = logits(network)
    adapter = save(network, base, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    parameters = {
        ".".join(each.split(".")[-3 if each.endswith("weight") else -2 :]) for each in config["target_parameters"]
    }
    assert parameters == CLASSES[name]
    assert not config["rank_pattern"] and not config["alpha_pattern"]
    ranks = {shape[0] for tensor, shape in tensor_shapes(adapter).items() if tensor.endswith("lora_A.weight")}
    assert ranks == {4, 4 * 4}  # of a layer, and of four experts together
    by_peft = logits(PeftModel.from_pretrained(kind.from_pretrained(base), str(adapter)))
    assert divergence(trained, by_peft) <= 1e-9
    found = merge(base, adapter, tmp_path / "merged", FLOAT32, texts=TEXTS)
    assert found.divergence.nats <= 1e-6
    assert divergence(by_peft, logits(by_transformers(tmp_path / "merged"))) <= 1e-6
    assert divergence(by_peft, logits(by_transformers(base))) > 1e-4
    assert torch.equal(logits(load_adapter(load_network(base, "auto", CPU), adapter, base)), trained)


@pytest.mark.parametrize("name", CLASSES)
def test_all_linear_leaves_only_routers_and_small_parts_of_the_decoder_frozen(name: str, model_of: ModelOf) -> None:
    network = load_structure(model_of(name))
    layers = expert_layers(network)
    assert layers and all(layer.count == 4 and layer.router for layer in layers)
    frozen = left_frozen(add_adapter_layers(network, AdapterConfig(r=2)))
    assert not [each for each in frozen if not each.endswith("_bias") and "visual" not in each]


# settings of an adapter: the parameters of qwen3_moe's second layer that it names
NAMED = {
    "freeze": ({"experts": "freeze"}, set()),
    "attention": ({"targets": "attention"}, set()),
    "attention and experts": ({"targets": "attention", "experts": "adapt"}, EXPERTS),
    "one of two": ({"targets": ["q_proj", "down_proj"]}, {"experts.down_proj"}),
    "the router": ({"targets": ["q_proj", "gate"]}, {"gate.weight"}),
    "experts alone": ({"targets": ["gate_up_proj", "down_proj"]}, EXPERTS),
    "dropout": ({"dropout": 0.1}, set()),
    "dora": ({"kind": "dora"}, set()),
    "rslora": ({"kind": "rslora"}, EXPERTS),
}


@pytest.mark.parametrize("case", NAMED)
def test_experts_and_routers_are_adapted_as_the_settings_say(case: str, model_of: ModelOf) -> None:
    settings, expected = NAMED[case]
    network = add_adapter_layers(load_structure(model_of("Qwen3MoeForCausalLM")), AdapterConfig(r=2, **settings))
    parameters = network.peft_config["default"].target_parameters or ()
    assert {".".join(name.split(".")[-2:]) for name in parameters} == expected
    frozen = any("experts" in name for name in left_frozen(network))
    assert frozen == (not expected >= EXPERTS)


def test_layers_of_mamba_that_peft_refuses_stay_frozen(model_of: ModelOf, tmp_path: Path) -> None:
    base = model_of("NemotronHForCausalLM")
    assert set(require_mergeable(base, AdapterConfig(r=2), is_rewritten=False).frozen) == {
        "model.layers.*.mixer.out_proj"
    }
    network = add_adapter(load_network(base, "auto", CPU), AdapterConfig(r=4, alpha=8), seed=0)
    train(network)
    adapter = save(network, base, tmp_path / "adapter")
    merge(base, adapter, tmp_path / "merged", FLOAT32, texts=TEXTS)
    assert divergence(logits(network), logits(by_transformers(tmp_path / "merged"))) <= 1e-6


def test_experts_without_weights_of_their_own_do_not_hide_the_others(model_of: ModelOf) -> None:
    base = model_of("LongcatFlashForCausalLM")
    [layer] = expert_layers(load_structure(base))
    assert layer.count == 4 and len(layer.matrices) == 2
    assert require_mergeable(base, AdapterConfig(r=2), is_rewritten=False).frozen == {}


REFUSED = [
    ("LagunaForCausalLM", {}, r"would lose weights, because peft looks for .*shared_experts\.\.down_proj"),
    (
        "Qwen3MoeForCausalLM",
        {"experts": "adapt", "dropout": 0.1},
        "does not support experts: .* or set experts: freeze",
    ),
    ("GptOssForCausalLM", {"experts": "adapt", "kind": "dora"}, "kind dora .* does not support experts"),
    (
        "Qwen3MoeForCausalLM",
        {"experts": "freeze", "targets": ["gate_up_proj"]},
        "targets name gate_up_proj, but experts: freeze",
    ),
    ("Qwen3MoeForCausalLM", {"targets": ["up_proj"]}, "unknown adapter target 'up_proj'"),
    ("LlamaForCausalLM", {"experts": "adapt"}, "architecture 'llama' has no routed experts"),
]


@pytest.mark.parametrize(("name", "settings", "message"), REFUSED)
def test_experts_that_cannot_be_adapted_are_refused(
    name: str, settings: dict[str, Any], message: str, model_of: ModelOf
) -> None:
    with pytest.raises(InputError, match=message):
        require_mergeable(model_of(name), AdapterConfig(r=2, **settings), is_rewritten=False)
