"""Each kind of adapter starts where the base is, learns, and works on the base it was trained on."""

from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import build_tiny
from jmedllm.errors import InputError
from jmedllm.models.folder import fingerprint
from jmedllm.models.loading import load_adapter, load_network
from jmedllm.models.save import save_adapter
from jmedllm.precision import choose_precision
from jmedllm.training import checkpoint
from jmedllm.training.config import TrainingConfig
from jmedllm.training.loop import TrainContext, train
from jmedllm.training.lora import AdapterConfig, add_adapter, principal_components, to_plain_lora
from jmedllm.training.packing import TrainingSample, pack_examples

CPU = torch.device("cpu")
IDS = torch.arange(1, 33)[None]


@torch.no_grad()
def log_probs(network: Any) -> torch.Tensor:
    return network.eval()(IDS).logits.float().log_softmax(-1)[0]


def learn(network: Any, folder: Path) -> None:
    samples = [TrainingSample(str(i), [i + 1, i + 2, i + 3, i + 4], [False, True, True, True]) for i in range(16)]
    blocks = pack_examples(samples, 32, 0)
    settings = TrainingConfig(steps=6, learning_rate=2e-2, batch_size=2, save_steps=2)
    train(network, blocks, settings, TrainContext("mpeft", folder, choose_precision("float32", "cpu"), 0, "x"))


# kind: (scale of B A for r 4 and alpha 8, tensors trained in a layer)
KINDS = {
    "lora": (2.0, {"lora_A", "lora_B"}),
    "rslora": (4.0, {"lora_A", "lora_B"}),
    "dora": (2.0, {"lora_A", "lora_B", "lora_magnitude_vector"}),
    "pissa": (2.0, {"lora_A", "lora_B"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_starts_at_its_base_learns_and_is_saved_for_it(tiny_model: Path, tmp_path: Path, kind: Any) -> None:
    scale, trained = KINDS[kind]
    network = load_network(tiny_model, "auto", CPU)
    base = log_probs(network)
    frozen = {name: p.clone() for name, p in network.named_parameters()}
    adapted = add_adapter(network, AdapterConfig(kind=kind, r=4, alpha=8, targets="qkv"), seed=0)
    assert torch.allclose(log_probs(adapted), base, atol=1e-5)
    layer = adapted.get_base_model().model.layers[0].self_attn.v_proj
    assert layer.scaling[next(iter(layer.scaling))] == scale
    learning = [name for name, p in adapted.named_parameters() if p.requires_grad]
    assert {part for name in learning for part in name.split(".") if part.startswith("lora_")} == trained
    learn(adapted, tmp_path / "stage")
    as_trained = log_probs(adapted)
    assert (as_trained - base).abs().max() > 0.05
    origin = {"base": str(tiny_model), "base_fingerprint": fingerprint(tiny_model)}
    save_adapter(to_plain_lora(adapted), tmp_path / "adapter", origin)
    original = load_network(tiny_model, "auto", CPU)
    for name, parameter in original.named_parameters():
        assert torch.equal(parameter, frozen[name])
    assert torch.allclose(log_probs(load_adapter(original, tmp_path / "adapter", tiny_model)), as_trained, atol=1e-5)


def test_pissa_in_bfloat16_leaves_the_base_as_it_is(tiny_model: Path) -> None:
    network = load_network(tiny_model, torch.bfloat16, CPU)
    before = [p.clone() for p in network.parameters()]
    adapted = add_adapter(network, AdapterConfig(kind="pissa", r=4, alpha=8), seed=0)
    frozen = [p for name, p in adapted.named_parameters() if "lora" not in name]
    assert all(torch.equal(a, b) for a, b in zip(before, frozen, strict=True))
    learning = {name.split(".")[-2] for name, p in adapted.named_parameters() if p.requires_grad}
    assert learning == {"pissa"}  # and not the half that takes the start off again


def test_pissa_resumes_from_a_checkpoint_to_the_same_adapter(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh() -> Any:
        return add_adapter(load_network(tiny_model, "auto", CPU), AdapterConfig(kind="pissa", r=4, alpha=8), seed=5)

    whole, stopped, resumed = fresh(), fresh(), fresh()
    learn(whole, tmp_path / "whole")
    with monkeypatch.context() as patch:
        save, calls = checkpoint.save, []

        def save_and_die(*args: Any, **kwargs: Any) -> None:
            save(*args, **kwargs)
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt

        patch.setattr(checkpoint, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            learn(stopped, tmp_path / "stopped")
    learn(resumed, tmp_path / "stopped")
    as_trained = log_probs(resumed)
    assert torch.equal(as_trained, log_probs(whole))
    origin = {"base": str(tiny_model), "base_fingerprint": fingerprint(tiny_model)}
    save_adapter(to_plain_lora(resumed), tmp_path / "adapter", origin)
    again = load_adapter(load_network(tiny_model, "auto", CPU), tmp_path / "adapter", tiny_model)
    assert torch.allclose(log_probs(again), as_trained, atol=1e-5)


@pytest.mark.parametrize("kind", ["dora", "pissa"])
def test_a_4_bit_base_takes_every_kind(tiny_model: Path, tmp_path: Path, kind: Any) -> None:
    adapter = AdapterConfig(kind=kind, r=4, alpha=8, quantization="nf4")
    network = load_network(tiny_model, "auto", CPU, quantization="nf4").train()
    before = network(IDS).logits.detach()
    adapted = add_adapter(network, adapter, seed=0).train()
    assert torch.allclose(adapted(IDS).logits, before, atol=0.01)  # 4-bit layers compute in bfloat16
    adapted(IDS).logits.square().sum().backward()
    gradients = [p.grad.abs().max() for p in adapted.parameters() if p.requires_grad]
    assert min(gradients) >= 0 and max(gradients) > 0


def test_principal_components_are_those_of_the_svd() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((40, 24), (24, 40)):
        weight = torch.randn(*shape, generator=generator)
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        nearest = (left[:, :6] * values[:6]) @ right[:6]
        a, b = principal_components(weight, 6, seed=1)
        assert a.shape == (6, shape[1]) and b.shape == (shape[0], 6)
        assert torch.allclose(b @ a, nearest, atol=2e-2)  # neighbouring singular values are a few % apart
        assert torch.allclose(a.norm(), b.norm())
        a2, b2 = principal_components(weight, 6, seed=2)
        assert (b2 @ a2 - b @ a).abs().max() < 2e-2
        assert torch.equal(principal_components(weight, 6, seed=1)[0], a)


REFUSED = [
    ({"targets": ["v_pro"]}, "unknown adapter target 'v_pro': did you mean v_proj"),
    ({"targets": ["lm_head"]}, "'lm_head' shares its weights with the embedding, which a merge would change too"),
    ({"kind": "pissa", "r": 33}, "r 33 is more than the width of "),
]


@pytest.mark.parametrize(("settings", "message"), REFUSED)
def test_an_adapter_that_cannot_work_is_refused(tiny_model: Path, settings: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        add_adapter(load_network(tiny_model, "auto", CPU), AdapterConfig(**settings), seed=0)


def test_a_preset_without_a_layer_is_refused(tmp_path: Path) -> None:
    network = load_network(build_tiny(tmp_path / "base"), "auto", CPU)
    for layer in network.model.layers:
        layer.self_attn = torch.nn.Identity()
    with pytest.raises(InputError, match="unknown adapter target preset for this architecture 'qkv'"):
        add_adapter(network, AdapterConfig(targets="qkv"), seed=0)
