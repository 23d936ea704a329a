"""A merged model says what base and adapter said together."""

import json
import shutil
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import build_tiny
from jmedllm import cli
from jmedllm.deploy.divergence import TEXTS, Divergence
from jmedllm.deploy.merge import ACCEPTED, MergeConfig, merge
from jmedllm.errors import InputError
from jmedllm.models.folder import fingerprint
from jmedllm.models.loading import load_adapter, load_network
from jmedllm.models.save import save_adapter
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.precision import choose_precision
from jmedllm.training.batches import evaluating
from jmedllm.training.config import TrainingConfig
from jmedllm.training.loop import TrainContext, train
from jmedllm.training.lora import AdapterConfig, add_adapter, to_plain_lora
from jmedllm.training.packing import TrainingSample, pack_examples

CPU = torch.device("cpu")
FLOAT32 = choose_precision("float32", "cpu")
IDS = torch.arange(1, 33)[None]


@torch.no_grad()
def log_probs(network: Any) -> torch.Tensor:
    return network(IDS).logits.float().log_softmax(-1)[0]


def adapt(base: Path, folder: Path, **settings: Any) -> Path:
    """An adapter with every trained number moved a little."""
    adapter = AdapterConfig(r=4, alpha=8, **settings)
    network = add_adapter(load_network(base, "auto", CPU, quantization=adapter.quantization), adapter, seed=0)
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    origin = {"base": str(base), "base_fingerprint": fingerprint(base), "quantization": adapter.quantization}
    save_adapter(to_plain_lora(network), folder, origin)
    return folder


def in_shards(base: Path, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The same model in many files."""
    load_network(base, dtype, CPU).save_pretrained(folder, max_shard_size="10KB")
    load_tokenizer(base).save_pretrained(folder)
    assert len(list(folder.glob("model-*.safetensors"))) > 3
    return folder


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "pissa"])
def test_the_merge_is_that_of_peft(tiny_model: Path, tmp_path: Path, kind: Any, quantization: Any) -> None:
    base = in_shards(tiny_model, tmp_path / "base")
    adapter = adapt(base, tmp_path / "adapter", kind=kind, quantization=quantization)
    merged = merge(base, adapter, tmp_path / "merged", FLOAT32)
    assert merged.divergence.nats < 1e-6 and merged.divergence.tokens == 512
    network = load_network(base, "auto", CPU, quantization=quantization)
    if quantization == "nf4":
        network = network.dequantize().float()
    by_peft = load_adapter(network, adapter, base).merge_and_unload()
    ours = load_network(tmp_path / "merged", "auto", CPU)
    for (name, expected), found in zip(by_peft.named_parameters(), ours.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-6), name


def test_the_merged_model_equals_base_and_adapter(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    base = log_probs(load_network(tiny_model, "auto", CPU))
    together = log_probs(load_adapter(load_network(tiny_model, "auto", CPU), tiny_adapter, tiny_model))
    found = merge(tiny_model, tiny_adapter, tmp_path / "merged", FLOAT32)
    assert found.fingerprint == fingerprint(tmp_path / "merged")
    merged = log_probs(load_network(tmp_path / "merged", "auto", CPU))
    assert torch.allclose(merged, together, atol=1e-5)
    assert not torch.allclose(merged, base, atol=1e-2)
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (tmp_path / "merged" / file).read_bytes() == (tiny_model / file).read_bytes()


def test_a_4_bit_merge_also_dequantizes_layers_without_adapter(tiny_model: Path, tmp_path: Path) -> None:
    adapter = adapt(tiny_model, tmp_path / "adapter", targets="qkv", quantization="nf4")
    merge(tiny_model, adapter, tmp_path / "merged", FLOAT32)
    kept = load_network(tiny_model, "auto", CPU, quantization="nf4").dequantize().float()
    merged = load_network(tmp_path / "merged", "auto", CPU)
    original = load_network(tiny_model, "auto", CPU)
    mlp = [network.model.layers[0].mlp.up_proj.weight for network in (merged, kept, original)]
    assert torch.equal(mlp[0], mlp[1]) and not torch.equal(mlp[0], mlp[2])
    embeddings = [network.model.embed_tokens.weight for network in (merged, original)]
    assert torch.equal(*embeddings)


def test_only_the_same_merge_may_be_in_the_output(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    first = merge(tiny_model, tiny_adapter, tmp_path / "merged", FLOAT32)
    (tmp_path / "merged" / "notes.txt").write_text("mine", encoding="utf-8")
    assert merge(tiny_model, tiny_adapter, tmp_path / "merged", FLOAT32) == first
    assert (tmp_path / "merged" / "notes.txt").read_text(encoding="utf-8") == "mine"
    (tmp_path / "merged" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="merged is not empty; choose another --output"):
        merge(tiny_model, tiny_adapter, tmp_path / "merged", FLOAT32)
    another = build_tiny(tmp_path / "another", seed=3)
    before = fingerprint(another)
    with pytest.raises(InputError, match="another is not empty; choose another --output"):
        merge(tiny_model, tiny_adapter, another, FLOAT32)
    assert fingerprint(another) == before


def test_merging_keeps_the_format_of_the_base(tiny_model: Path, tmp_path: Path) -> None:
    half = in_shards(tiny_model, tmp_path / "half", torch.bfloat16)
    adapter = adapt(half, tmp_path / "adapter")
    merged = merge(half, adapter, tmp_path / "merged", FLOAT32)
    ours = load_network(tmp_path / "merged", "auto", CPU)
    assert ours.dtype == torch.bfloat16 and 0 < merged.divergence.nats < 1e-4
    summed_in_float32 = load_adapter(load_network(half, torch.float32, CPU), adapter, half).merge_and_unload()
    for found, expected in zip(ours.parameters(), summed_in_float32.bfloat16().parameters(), strict=True):
        assert torch.equal(found, expected)  # rounded once, and the factors not at all


def test_too_large_a_divergence_refuses_the_merge_and_leaves_nothing(tiny_model: Path, tmp_path: Path) -> None:
    half = in_shards(tiny_model, tmp_path / "half", torch.bfloat16)
    adapter = adapt(half, tmp_path / "adapter")
    with pytest.raises(InputError) as error:
        merge(half, adapter, tmp_path / "merged", FLOAT32, accepted=1e-9)
    printed = str(error.value)
    assert (
        "differs from the trained one by " in printed and "nats per token, more than 1e-09; accept it with" in printed
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "half"]
    accepted = merge(half, adapter, tmp_path / "merged", FLOAT32, accepted=1e-2)
    nats = accepted.divergence.nats
    assert f"by {nats} nats" in printed
    little_less = round(nats - 1e-9, 9)
    with pytest.raises(InputError, match=f"by {nats} nats per token, more than {little_less};"):
        merge(half, adapter, tmp_path / "another", FLOAT32, accepted=little_less)
    origin = json.loads((tmp_path / "merged" / "jmedllm.json").read_text(encoding="utf-8"))
    assert Divergence(**origin["divergence"]) == accepted.divergence


def test_a_merge_without_the_adapter_is_detected_by_its_divergence(
    tiny_model: Path, tiny_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jmedllm.deploy.merge.rewrite", lambda source, target, changes: shutil.copy(source, target))
    with pytest.raises(InputError, match=r"nats per token, more than 0\.01"):
        merge(tiny_model, tiny_adapter, tmp_path / "merged", FLOAT32)


def test_an_adapter_of_nan_is_not_merged_with_a_divergence_of_0(tiny_model: Path, tmp_path: Path) -> None:
    adapter = adapt(tiny_model, tmp_path / "adapter")
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({name: each * float("nan") for name, each in tensors.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(InputError, match=rf"merge: {tiny_model} with {adapter} returns NaN or infinity; check"):
        merge(tiny_model, adapter, tmp_path / "merged", FLOAT32)
    assert not (tmp_path / "merged").exists()


def test_the_text_to_compare_on_can_be_given(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    found = merge(tiny_model, tiny_adapter, tmp_path / "merged", FLOAT32, texts=["脚気"])
    assert found.divergence.tokens == len(tokenizer("脚気")["input_ids"])
    with pytest.raises(InputError, match="text to compare the models on is empty; give another --text"):
        merge(tiny_model, tiny_adapter, tmp_path / "other", FLOAT32, texts=[""])
    assert all(text == text.strip() and text for text in TEXTS)


def test_the_command_line_accepts_what_a_recipe_does() -> None:
    assert signature(cli.merge).parameters["accept_divergence"].default == ACCEPTED == MergeConfig().accept_divergence


def damaged(adapter: Path, folder: Path, **config: Any) -> Path:
    """A copy without an origin file, so that only its weights identify it."""
    shutil.copytree(adapter, folder, ignore=shutil.ignore_patterns("jmedllm.json"))
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | config), encoding="utf-8")
    return folder


# what the adapter's configuration says: message
STRANGE = [
    ({"init_lora_weights": "pissa_niter_4"}, "was trained on a base that pissa_niter_4 had changed; convert it"),
    ({"modules_to_save": ["lm_head"]}, "modules_to_save is not supported by merge"),
    ({"bias": "all"}, "LORA with bias all is not supported by merge"),
    ({"peft_type": "IA3"}, "IA3 with bias none is not supported by merge"),
]


@pytest.mark.parametrize(("config", "message"), STRANGE)
def test_an_adapter_that_a_merge_does_not_know_is_refused(
    tiny_model: Path, tiny_adapter: Path, tmp_path: Path, config: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        merge(tiny_model, damaged(tiny_adapter, tmp_path / "a", **config), tmp_path / "merged", FLOAT32)


def test_an_adapter_for_another_base_is_refused(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    wider = build_tiny(tmp_path / "wider", hidden_size=64)
    with pytest.raises(InputError, match="trained on base"):
        merge(wider, tiny_adapter, tmp_path / "merged", FLOAT32)
    nameless = damaged(tiny_adapter, tmp_path / "a", base_model_name_or_path=None)
    with pytest.raises(InputError, match=r"layers.0.self_attn.q_proj.lora_A.weight is \[4, 32\], but .* be \[4, 64\]"):
        merge(wider, nameless, tmp_path / "merged", FLOAT32)
    shorter = build_tiny(tmp_path / "shorter", layers=1)
    with pytest.raises(InputError, match=r"layers.1.\S+ is for a layer that this base does not have"):
        merge(shorter, nameless, tmp_path / "merged", FLOAT32)


def test_a_missing_shard_is_named(tiny_model: Path, tmp_path: Path) -> None:
    base = in_shards(tiny_model, tmp_path / "base")
    adapter = adapt(base, tmp_path / "adapter")
    lost = sorted(base.glob("model-*.safetensors"))[1]
    lost.unlink()
    with pytest.raises(InputError, match=f"{lost.name} is missing, though model.safetensors.index.json lists it"):
        merge(base, adapter, tmp_path / "merged", FLOAT32)


# Wide enough that bitsandbytes would pack the weights of evaluated layers, on a CPU that it packs for.
@pytest.mark.parametrize(("architecture", "hidden_size", "dropout"), [("qwen2", 32, 0.3), ("llama", 128, 0.0)])
def test_a_4_bit_adapter_trains_and_merges_into_what_it_was_trained_on(
    architecture: str, hidden_size: int, dropout: float, tmp_path: Path
) -> None:
    base = build_tiny(tmp_path / "base", architecture=architecture, hidden_size=hidden_size)
    samples = [TrainingSample(str(i), [i + 1, i + 2, i + 3, i + 4], [False, True, True, True]) for i in range(16)]
    adapter = AdapterConfig(r=4, alpha=8, dropout=dropout, quantization="nf4")
    network = add_adapter(load_network(base, "auto", CPU, quantization="nf4"), adapter, seed=0)
    trained = train(
        network,
        pack_examples(samples, 32, 0),
        TrainingConfig(steps=30, learning_rate=2e-2, batch_size=2),
        TrainContext("mpeft", tmp_path / "stage", FLOAT32, 0, "x"),
    )
    assert trained.final_loss < 5.5  # from log(320) = 5.77; embedding and head stay as they were drawn
    # Every layer of the adapter has learned, so gradients pass through the 4-bit layers.
    learned = [p.abs().max() for name, p in network.named_parameters() if "lora_B" in name]
    assert len(learned) == 14 and min(learned) > 1e-3
    origin = {"base": str(base), "base_fingerprint": fingerprint(base), "quantization": "nf4"}
    save_adapter(network, tmp_path / "adapter", origin)
    merged = merge(base, tmp_path / "adapter", tmp_path / "merged", FLOAT32)
    assert merged.divergence.nats < 1e-5
    with evaluating(network):
        as_trained = log_probs(network)
        assert torch.equal(log_probs(network), as_trained)
    found = log_probs(load_network(tmp_path / "merged", "auto", CPU))
    assert (as_trained.exp() * (as_trained - found)).sum(-1).mean().item() < 1e-5


def test_a_merge_leaves_adapter_files_behind(
    tiny_model: Path, tiny_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = shutil.copytree(tiny_model, tmp_path / "both")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(tiny_adapter / name, both / name)
    for number, adapter in enumerate((tiny_adapter, both)):
        merge(both, adapter, tmp_path / f"merged{number}", FLOAT32)
        merged = log_probs(load_network(tmp_path / f"merged{number}", "auto", CPU))
        together = log_probs(load_adapter(load_network(tiny_model, "auto", CPU), tiny_adapter, tiny_model))
        assert torch.allclose(merged, together, atol=1e-5)
        assert not list((tmp_path / f"merged{number}").glob("adapter_*"))
    # Were they copied all the same, the check of what was written would see it.
    monkeypatch.setattr("jmedllm.deploy.merge.model_files", lambda folder: sorted(folder.glob("*.json")))
    with pytest.raises(InputError, match="contains a whole model and the files of an adapter"):
        merge(both, tiny_adapter, tmp_path / "third", FLOAT32)
    assert not (tmp_path / "third").exists()
