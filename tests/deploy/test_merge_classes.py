"""What training accepts of a class, merge writes: transformers alone loads it, and it says what was trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from jmedllm.deploy.merge import merge
from jmedllm.models.folder import fingerprint
from jmedllm.models.loading import load_network
from jmedllm.models.save import save_adapter
from jmedllm.precision import choose_precision
from jmedllm.training.lora import AdapterConfig, add_adapter, to_plain_lora

CPU = torch.device("cpu")
FLOAT32 = choose_precision("float32", "cpu")
TEXTS = ["脚気"]  # few tokens: the logits are compared here
IDS = torch.arange(1, 33)[None]
ModelOf = Callable[[str], Path]


def train(network: Any, steps: int = 2) -> None:
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(steps):
        network(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def logits(network: Any) -> torch.Tensor:
    found: torch.Tensor = network.eval()(input_ids=IDS).logits
    return found


def by_transformers(folder: Path) -> Any:
    """Loaded as the class that its config names, with nothing of ours."""
    import transformers

    kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    network, info = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    return network


def save(adapted: Any, base: Path, folder: Path) -> Path:
    save_adapter(to_plain_lora(adapted), folder, {"base": str(base), "base_fingerprint": fingerprint(base)})
    return folder


def names_in(folder: Path) -> dict[str, set[str]]:
    return {file.name: set(safe_open(file, "pt").keys()) for file in folder.glob("*.safetensors")}


MERGED = [
    "GPTNeoXForCausalLM",
    "MixtralForCausalLM",
    "DeepseekV3ForCausalLM",
    "MiniMaxForCausalLM",
    "Gemma3ForConditionalGeneration",
    "Llama4ForConditionalGeneration",
    "Qwen3_5MoeForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Mistral3ForConditionalGeneration",
]
"""Those whose files differ most from their networks."""


@pytest.mark.parametrize("name", MERGED)
def test_the_merged_model_is_the_trained_one_and_of_the_same_class(
    name: str, model_of: ModelOf, tmp_path: Path
) -> None:
    base = model_of(name)
    network = add_adapter(load_network(base, "auto", CPU), AdapterConfig(r=4, alpha=8), seed=0)
    before = logits(network)
    train(network)
    trained = logits(network)
    found = merge(base, save(network, base, tmp_path / "adapter"), tmp_path / "merged", FLOAT32, texts=TEXTS)
    assert found.divergence.nats < 1e-6
    merged = by_transformers(tmp_path / "merged")
    assert type(merged).__name__ == name
    assert torch.allclose(logits(merged), trained, rtol=0, atol=1e-5)
    assert not torch.allclose(before, trained, rtol=0, atol=1e-3)
    assert names_in(tmp_path / "merged") == names_in(base)
    for file in ("config.json", "preprocessor_config.json"):
        assert (tmp_path / "merged" / file).read_bytes() == (base / file).read_bytes()


def test_experts_in_several_files_are_merged(model_of: ModelOf, tmp_path: Path) -> None:
    base = tmp_path / "base"
    whole = load_network(model_of("Qwen3MoeForCausalLM"), torch.bfloat16, CPU)
    whole.save_pretrained(base, max_shard_size="4KB")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (base / file).write_bytes((model_of("Qwen3MoeForCausalLM") / file).read_bytes())
    files = {file for file, names in names_in(base).items() if any("layers.0.mlp.experts" in n for n in names)}
    assert len(files) > 1
    network = add_adapter(load_network(base, torch.float32, CPU), AdapterConfig(r=4, alpha=8), seed=0)
    train(network)
    found = merge(base, save(network, base, tmp_path / "adapter"), tmp_path / "merged", FLOAT32, texts=TEXTS)
    assert 0 < found.divergence.nats < 1e-4  # the sum is rounded once
    merged = by_transformers(tmp_path / "merged")
    assert merged.dtype == torch.bfloat16 and names_in(tmp_path / "merged") == names_in(base)


@pytest.mark.parametrize(
    ("name", "experts"),
    [
        ("GptOssForCausalLM", ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),  # [experts, in, out]
        ("Qwen3_5MoeForConditionalGeneration", ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
        ("Llama4ForConditionalGeneration", ["feed_forward.experts.down_proj"]),
        ("GraniteMoeForCausalLM", ["block_sparse_moe.experts.gate_up_proj", "block_sparse_moe.router.weight"]),
    ],
)
def test_experts_that_a_peft_config_names_are_merged(
    name: str, experts: list[str], model_of: ModelOf, tmp_path: Path
) -> None:
    """As an adapter from elsewhere may be: parameters as targets, another rank for some."""
    from peft import LoraConfig, get_peft_model

    base = model_of(name)
    torch.manual_seed(0)
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["q_proj", "v_proj"],
        target_parameters=experts,
        rank_pattern={"v_proj": 2, rf".*\.{experts[0].rpartition('.')[2]}": 6},
        alpha_pattern={"v_proj": 16},
        task_type="CAUSAL_LM",
    )
    network: Any = get_peft_model(load_network(base, "auto", CPU), config)
    assert any(name.endswith(".experts.lora_B.default.weight") for name, _ in network.named_parameters())
    train(network)
    trained = logits(network)
    found = merge(base, save(network, base, tmp_path / "adapter"), tmp_path / "merged", FLOAT32, texts=TEXTS)
    assert found.divergence.nats < 1e-6
    assert torch.allclose(logits(by_transformers(tmp_path / "merged")), trained, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "free"),
    [
        ("Qwen3MoeForCausalLM", 0),  # read from the disk
        ("Qwen3MoeForCausalLM", 1 << 40),
        ("GPT2LMHeadModel", 1 << 40),  # its 4-bit layers are transposed
    ],
)
def test_a_4_bit_adapter_on_layers_that_are_not_plain_is_merged(
    name: str, free: int, model_of: ModelOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jmedllm.deploy.divergence.free_memory", lambda device: free)
    base = model_of(name)
    network = load_network(base, torch.float32, CPU, quantization="nf4")
    network = add_adapter(network, AdapterConfig(r=4, alpha=8, quantization="nf4"), seed=0)
    network.train()
    train(network)
    origin = {"base": str(base), "base_fingerprint": fingerprint(base), "quantization": "nf4"}
    save_adapter(to_plain_lora(network), tmp_path / "adapter", origin)
    found = merge(base, tmp_path / "adapter", tmp_path / "merged", FLOAT32)
    assert 0 < found.divergence.nats < 1e-3  # 4-bit layers compute in bfloat16
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "merged"]
