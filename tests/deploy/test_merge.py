"""A merged model says what base and adapter said together."""

from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import build_tiny
from jmedllm.corpus.pack import Sample, pack_examples
from jmedllm.deploy.merge import merge
from jmedllm.errors import InputError
from jmedllm.models.folder import fingerprint
from jmedllm.models.loading import load_adapter, load_network
from jmedllm.models.save import save_adapter
from jmedllm.precision import choose_precision
from jmedllm.training.adapter import Adapter, add_adapter
from jmedllm.training.loop import Optimization, train

CPU = torch.device("cpu")
IDS = torch.arange(1, 33)[None]


@torch.no_grad()
def log_probs(network: Any) -> torch.Tensor:
    return network(IDS).logits.float().log_softmax(-1)[0]


def test_the_merged_model_equals_base_and_adapter(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    base = log_probs(load_network(tiny_model, "auto", CPU))
    together = log_probs(load_adapter(load_network(tiny_model, "auto", CPU), tiny_adapter, tiny_model))
    assert merge(tiny_model, tiny_adapter, tmp_path / "merged") == fingerprint(tmp_path / "merged")
    merged = log_probs(load_network(tmp_path / "merged", "auto", CPU))
    assert torch.allclose(merged, together, atol=1e-5)
    assert not torch.allclose(merged, base, atol=1e-2)


def test_only_the_same_merge_may_be_in_the_output(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    merge(tiny_model, tiny_adapter, tmp_path / "merged")
    (tmp_path / "merged" / "notes.txt").write_text("mine", encoding="utf-8")
    merge(tiny_model, tiny_adapter, tmp_path / "merged")
    assert (tmp_path / "merged" / "notes.txt").read_text(encoding="utf-8") == "mine"
    (tmp_path / "merged" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="merged is not empty; choose another --output"):
        merge(tiny_model, tiny_adapter, tmp_path / "merged")
    another = build_tiny(tmp_path / "another", seed=3)
    before = fingerprint(another)
    with pytest.raises(InputError, match="another is not empty; choose another --output"):
        merge(tiny_model, tiny_adapter, another)
    assert fingerprint(another) == before


def test_merging_keeps_the_format_of_the_base(tiny_adapter: Path, tiny_model: Path, tmp_path: Path) -> None:
    import json

    network = load_network(tiny_model, torch.bfloat16, CPU)
    network.save_pretrained(tmp_path / "half")
    for file in tiny_model.glob("tokenizer*"):
        (tmp_path / "half" / file.name).write_bytes(file.read_bytes())
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for file in tiny_adapter.iterdir():
        (adapter / file.name).write_bytes(file.read_bytes())
    (adapter / "jmedllm.json").write_text(
        json.dumps({"base": "half", "base_fingerprint": fingerprint(tmp_path / "half")})
    )
    merge(tmp_path / "half", adapter, tmp_path / "merged")
    assert load_network(tmp_path / "merged", "auto", CPU).dtype == torch.bfloat16


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_a_4_bit_adapter_trains_and_merges_into_what_it_was_trained_on(architecture: str, tmp_path: Path) -> None:
    base = build_tiny(tmp_path / "base", architecture=architecture)
    samples = [Sample(str(i), [i + 1, i + 2, i + 3, i + 4], [False, True, True, True]) for i in range(16)]
    network = add_adapter(
        load_network(base, "auto", CPU, quantization="nf4"), Adapter(r=4, alpha=8, quantization="nf4"), seed=0
    )
    trained = train(
        network,
        pack_examples(samples, 32, 0),
        Optimization(steps=30, learning_rate=2e-2, batch=2),
        choose_precision("float32", "cpu"),
        tmp_path / "stage",
        seed=0,
        identity="x",
        title="mpeft",
    )
    assert trained.final_loss < 5.5  # from log(320) = 5.77; embedding and head stay as they were drawn
    # Every layer of the adapter has learned, so gradients pass through the 4-bit layers.
    learned = [p.abs().max() for name, p in network.named_parameters() if "lora_B" in name]
    assert len(learned) == 14 and min(learned) > 1e-3
    origin = {"base": str(base), "base_fingerprint": fingerprint(base), "quantization": "nf4"}
    save_adapter(network, tmp_path / "adapter", origin)
    merge(base, tmp_path / "adapter", tmp_path / "merged")
    merged = log_probs(load_network(tmp_path / "merged", "auto", CPU))
    as_trained = log_probs(network.train())  # evaluated on a CPU, bitsandbytes would pack 4-bit weights
    divergence = (as_trained.exp() * (as_trained - merged)).sum(-1).mean().item()
    assert divergence < 1e-3
