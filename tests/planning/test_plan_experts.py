"""The plan of a mixture of experts: memory counts all experts, hours count those that a token passes through."""

from typing import Any

import pytest
import torch
import transformers

from jmedllm.files import to_json
from jmedllm.models.experts import expert_layers
from jmedllm.planning.counts import PlannedBase, adapter_shares, shape_of_base
from jmedllm.planning.hours import AdapterSize, flops, reading_flops
from jmedllm.planning.machine import Machine, read_gpu
from jmedllm.planning.needs import StagePlan, in_4_bits, plan_stage
from jmedllm.planning.printing import _experts, _stage_values
from jmedllm.planning.shape import shape_of
from jmedllm.recipe import AdapterTrainingConfig
from jmedllm.training.config import TrainingConfig
from jmedllm.training.experts import routers_of
from jmedllm.training.lora import AdapterConfig, add_adapter
from tiny_classes import CLASSES, TEXT

HUNYUAN = TEXT | {"num_experts": 4, "moe_topk": [1, 3]}
MACHINE = Machine(read_gpu("h100"), 1, 1, 2**38)


def base_of(name: str) -> PlannedBase:
    kind = getattr(transformers, name)
    return PlannedBase(name, to_json(kind.config_class(**CLASSES[name]).to_dict()), torch.bfloat16)


def planned(name: str, **adapter: Any) -> StagePlan:
    settings = AdapterTrainingConfig(steps=2, learning_rate=1e-3, adapter=AdapterConfig(r=2, **adapter))
    return plan_stage("mpeft", settings, 64, base_of(name), MACHINE)


@pytest.mark.parametrize("name", ["Qwen3MoeForCausalLM", "GptOssForCausalLM", "DeepseekV3ForCausalLM"])
def test_parameters_are_counted_as_in_the_network(name: str) -> None:
    network = getattr(transformers, name)(getattr(transformers, name).config_class(**CLASSES[name]))
    shape, experts = shape_of_base(base_of(name)), sum(sum(e.matrices.values()) for e in expert_layers(network))
    total = sum(p.numel() for p in network.parameters())
    assert shape.total == total and shape.experts == experts
    assert shape.active == total - experts // 2  # two of four experts
    adapted = add_adapter(network, AdapterConfig(r=2), seed=0)
    trained = sum(p.numel() for key, p in adapted.named_parameters() if ".experts." in key and p.requires_grad)
    found = adapter_shares(base_of(name), AdapterConfig(r=2))
    assert found.in_experts == trained and found.adapted > experts / total


def test_a_config_may_list_the_experts_per_token_layer_by_layer() -> None:
    with torch.device("meta"):
        kind = transformers.HunYuanMoEV1ForCausalLM
        network = kind(kind.config_class(**HUNYUAN))
    found, layers = shape_of(network), expert_layers(network)
    first, second = (sum(layer.matrices.values()) for layer in layers)
    assert found.experts == first + second and found.active_experts == first // 4 + second * 3 // 4
    routers = routers_of(network, 0.0)
    assert routers is not None and routers.chosen == {"0": 1, "1": 3}


def test_hours_count_active_experts_and_memory_counts_all() -> None:
    shape = shape_of_base(base_of("MixtralForCausalLM"))
    whole = TrainingConfig(steps=1, learning_rate=1e-3)
    per_weight = 6 * (shape.linear + shape.active_experts + shape.head)
    assert flops(shape, whole, 64, None) == per_weight + 12 * shape.layers * shape.queries * 32
    assert reading_flops(shape, 0) == 2 * (shape.linear + shape.active_experts)
    frozen, adapted = planned("MixtralForCausalLM", experts="freeze"), planned("MixtralForCausalLM")
    assert adapted.work.flops > frozen.work.flops > flops(shape, whole, 64, AdapterSize(0)) * 0.99
    base = {part.name: part.gpu for part in adapted.parts}["base, bfloat16"]
    assert base >= 2 * shape.total > 2 * shape.active


def test_shares_are_printed_and_in_json() -> None:
    found = planned("GptOssForCausalLM", experts="freeze")
    values = _stage_values(found, MACHINE)
    assert values["parameters"] == {"total": found.shape.total, "active": found.shape.active}
    assert any("experts" in name for name in values["adapter"]["left_frozen"])
    assert values["adapter"]["adapted_share"] + sum(values["adapter"]["left_frozen"].values()) <= 1
    assert " adapts " in _experts(found) and " leaves frozen model.layers.*.mlp.experts." in _experts(found)
    share = found.shape.experts / found.shape.total
    assert in_4_bits(found.shape) == f"linear layers in 4 bits, experts ({share:.0%}) in bfloat16"
