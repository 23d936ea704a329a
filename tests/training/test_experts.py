"""The load-balancing loss is that of transformers for every micro-batch size, and the load of experts is logged."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import CPU, fit, rows

from jmedllm.errors import InputError
from jmedllm.models.experts import expert_layers
from jmedllm.training.batches import micro_batches
from jmedllm.training.config import TrainingConfig
from jmedllm.training.experts import (
    StepExperts,
    balance_coefficient,
    counted_tokens,
    expert_load,
    has_collapsed,
    routers_of,
)
from jmedllm.training.isolation import isolate
from jmedllm.training.loop import StepInputs, optimizer_step
from jmedllm.training.lora import AdapterConfig, add_adapter
from jmedllm.training.loss import summed_loss
from jmedllm.training.memory import apply_activation_checkpointing
from jmedllm.training.metrics import progress_note
from jmedllm.training.optim.build import build
from jmedllm.training.trainable import choose_isolation
from tiny_classes import CLASSES

IDS = torch.arange(1, 25)[None]
POSITIONS = torch.arange(24)[None]
TRAINED = torch.ones(1, 24, dtype=torch.bool)


def network_of(name: str, **changes: Any) -> Any:
    import transformers

    kind = getattr(transformers, name)
    torch.manual_seed(0)
    values = {**CLASSES[name], **changes}
    network = kind(kind.config_class(pad_token_id=0, eos_token_id=0, bos_token_id=0, **values)).float()
    for key, weight in network.named_parameters():
        if weight.dim() > 1 and "A_log" not in key:
            torch.nn.init.normal_(weight, std=0.3)
    isolate(network, choose_isolation(network.config, torch.device("cpu")))
    return network


def routed(network: Any, coefficient: float, *batch: torch.Tensor) -> tuple[torch.Tensor, StepExperts]:
    """The load-balancing loss of one micro-batch, and what was counted."""
    routers = routers_of(network, coefficient)
    assert routers is not None
    step = StepExperts(routers, int(counted_tokens(batch[1], batch[2]).sum()))
    with step.recording() as calls:
        summed_loss(network, *batch)
    return step.balance_loss(calls, *batch), step


WITH_LOSS = [
    "Qwen3MoeForCausalLM",
    "MixtralForCausalLM",
    "GptOssForCausalLM",
    "GraniteMoeHybridForCausalLM",
    "Qwen3NextForCausalLM",
    "MiniMaxForCausalLM",  # its samples are computed alone, and padded
]


@pytest.mark.parametrize("name", WITH_LOSS)
def test_the_load_balancing_loss_is_that_of_transformers(name: str) -> None:
    network = network_of(name)
    loss, step = routed(network, 1.0, IDS, POSITIONS, TRAINED)
    own = network(input_ids=IDS, output_router_logits=True)
    assert torch.allclose(loss, own.aux_loss, atol=1e-6) and loss.item() > 1
    assert step.measured()["router_aux_loss"] == pytest.approx(loss.item())
    routers = [p for key, p in network.named_parameters() if p.shape[:1] == (4,) and p.dim() == 2]
    found, expected = (torch.autograd.grad(each, routers, allow_unused=True) for each in (loss, own.aux_loss))
    pairs = [(a, b) for a, b in zip(found, expected, strict=True) if b is not None]
    assert pairs and all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)
    assert any(a.abs().max() > 1e-4 for a, _ in pairs)


def test_padding_and_packed_samples_do_not_change_what_counts() -> None:
    """Padding is left out as with an attention mask; a packed sample counts as it does alone."""
    network = network_of("Qwen3MoeForCausalLM")
    ids = torch.cat([IDS[:, :9], IDS[:, 3:15], torch.zeros(1, 5, dtype=torch.long)], dim=1)
    positions = torch.cat([POSITIONS[:, :9], POSITIONS[:, :12], torch.zeros(1, 5, dtype=torch.long)], dim=1)
    loss, step = routed(network, 1.0, ids, positions, positions > 0)
    from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

    alone = [network(input_ids=part, output_router_logits=True).router_logits for part in (IDS[:, :9], IDS[:, 3:15])]
    logits = tuple(torch.cat(layer) for layer in zip(*alone, strict=True))
    assert torch.allclose(loss, load_balancing_loss_func(logits, 4, 2), atol=1e-6)
    assert step.tokens == 21


@pytest.mark.parametrize("checkpointing", ["none", "recompute"])
@pytest.mark.parametrize("micro_batch_size", [2, 4])
def test_a_step_is_the_same_for_every_micro_batch_size(micro_batch_size: int, checkpointing: Any) -> None:
    def step(size: int, checkpointing: Any) -> tuple[list[torch.Tensor], Any]:
        network = network_of("Qwen3MoeForCausalLM").train()
        apply_activation_checkpointing(network, checkpointing)
        routers = routers_of(network, 0.5)
        assert routers is not None
        blocks = rows(12)
        chosen = torch.arange(4).numpy()
        batches = list(micro_batches(blocks, chosen, size, CPU.device))
        positions, mask = (torch.from_numpy(each[chosen]) for each in (blocks.positions, blocks.loss_mask))
        experts = StepExperts(routers, int(counted_tokens(positions, mask).sum()))
        optimizer = build(network, TrainingConfig(steps=1, learning_rate=1e-3), CPU.device)
        inputs = StepInputs(0, batches, int(mask.sum()), 1e-3, None, experts)
        norm = optimizer_step(network, optimizer, inputs, CPU)
        return [p.detach() for p in network.parameters()], (norm, experts.measured())

    weights, found = step(1, "none")
    others, again = step(micro_batch_size, checkpointing)
    assert again[0] == pytest.approx(found[0], rel=1e-5)
    assert again[1]["expert_load"] == found[1]["expert_load"]
    assert again[1]["router_aux_loss"] == pytest.approx(found[1]["router_aux_loss"], rel=1e-5)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(weights, others, strict=True))


def test_the_coefficient_is_that_of_the_base_or_the_recipe() -> None:
    silent, speaking = network_of("Qwen3MoeForCausalLM"), network_of("Qwen3MoeForCausalLM", output_router_logits=True)
    assert balance_coefficient(silent, None) == 0
    assert balance_coefficient(speaking, None) == speaking.config.router_aux_loss_coef == 0.001
    assert balance_coefficient(add_adapter(speaking, AdapterConfig(r=2), 0), 0.5) == 0.5
    assert balance_coefficient(network_of("LlamaForCausalLM"), None) == 0
    for name in ("DeepseekV3ForCausalLM", "LlamaForCausalLM"):
        with pytest.raises(InputError, match=r"router_aux_loss_coef: architecture .* has no load-balancing loss"):
            balance_coefficient(network_of(name), 0.1)


@pytest.mark.parametrize("adapter", [None, AdapterConfig(r=2), AdapterConfig(r=2, targets=["o_proj", "gate"])])
def test_the_load_of_each_layer_is_logged(adapter: AdapterConfig | None, tmp_path: Path) -> None:
    network = network_of("DeepseekV3ForCausalLM")
    fit(tmp_path, network if adapter is None else add_adapter(network, adapter, 0), steps=2)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2
    for line in lines:
        assert list(line["expert_load"]) == ["1"]  # the first layer is dense
        load = line["expert_load"]["1"]
        assert 0 <= load["min"] <= 0.25 <= load["max"] <= 0.5 and 2 <= load["experts"] <= 4
        assert "router_aux_loss" not in line and progress_note(line, [])


def test_a_collapsed_router_is_reported_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = network_of("Qwen3MoeForCausalLM")
    [first, second] = expert_layers(network)
    with torch.no_grad():
        network.get_submodule(second.router).weight.zero_()  # then the same experts win every tie
    fit(tmp_path, add_adapter(network, AdapterConfig(r=2), 0), steps=2)
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("has collapsed") == 1
    assert f"the router {second.router} has collapsed: its choices are spread as if there were 2.0 of 4" in said
    assert first.router not in said


def test_load_and_collapse() -> None:
    assert expert_load([10, 10, 10, 10]) == {"max": 0.25, "min": 0.25, "experts": 4.0}
    assert expert_load([30, 10, 0, 0]) == {"max": 0.75, "min": 0.0, "experts": 1.75}
    assert expert_load([0, 0]) == {"max": 0.0, "min": 0.0, "experts": 1.0}
    # experts in use, experts, experts per token, tokens
    assert has_collapsed(8.0, 128, 8, 4096) and has_collapsed(19.9, 128, 8, 4096)
    assert not has_collapsed(60.0, 128, 8, 4096)
    assert not has_collapsed(8.0, 128, 8, 100)  # 800 choices are too few


def test_blocks_of_documents_count_all_their_tokens() -> None:
    blocks = rows(8)
    positions, mask = torch.from_numpy(blocks.positions).long(), torch.from_numpy(blocks.loss_mask)
    counted = counted_tokens(positions, mask)
    assert counted[mask].all() and counted.sum() >= mask.sum()


def test_weights_without_a_gradient_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = add_adapter(network_of("JambaForCausalLM"), AdapterConfig(r=2), seed=0)
    fit(tmp_path, network, steps=1)
    assert "a trial batch gives 2 trained weights no gradient" in capsys.readouterr().err
