"""Text training on a vision-language model changes its language model only, and every export is of its class."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jmedllm.deploy.merge import merge
from jmedllm.models.folder import fingerprint
from jmedllm.models.layers import decoder_of, freeze_beside_text
from jmedllm.models.loading import layers_in_4_bits, load_network
from jmedllm.models.save import save_adapter, save_model
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.precision import choose_precision
from jmedllm.training.lora import AdapterConfig, add_adapter
from jmedllm.training.loss import summed_loss
from jmedllm.training.optim.weights import cast_weights
from tiny_classes import CLASSES

ModelOf = Callable[[str], Path]
CPU = torch.device("cpu")
IDS = torch.arange(1, 33)[None]

# class: beginnings of the names, in its files, of tensors that text does not pass through
TOWERS = {
    "Gemma3ForConditionalGeneration": ("vision_tower", "multi_modal_projector"),
    "Gemma4ForConditionalGeneration": ("model.vision_tower", "model.embed_vision"),
    "Llama4ForConditionalGeneration": ("vision_model", "multi_modal_projector"),
    "LlavaForConditionalGeneration": ("vision_tower", "multi_modal_projector"),
    "Mistral3ForConditionalGeneration": ("vision_tower", "multi_modal_projector"),
    "InternVLForConditionalGeneration": ("vision_tower", "multi_modal_projector"),
    "Qwen2_5_VLForConditionalGeneration": ("visual",),
    "Qwen3VLForConditionalGeneration": ("model.visual",),
    "Qwen3VLMoeForConditionalGeneration": ("model.visual",),
    "Qwen3_5ForConditionalGeneration": ("model.visual",),
    "Qwen3_5MoeForConditionalGeneration": ("model.visual",),
}


def sample(*usual: str) -> list[Any]:
    """All classes, of which only the named ones are tried every time."""
    marks = {name: () if name in usual else (pytest.mark.exhaustive,) for name in TOWERS}
    return [pytest.param(name, marks=marks[name]) for name in TOWERS]


FULL = sample(*(f"{name}ForConditionalGeneration" for name in ("Gemma3", "Llama4", "Qwen3_5")))
ADAPTED = sample("Gemma3ForConditionalGeneration")


def train(network: Any) -> None:
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    for _ in range(2):
        summed_loss(network, IDS, torch.arange(32)[None], torch.ones(1, 32, dtype=torch.bool)).backward()
        optimizer.step()
        optimizer.zero_grad()


def changed(base: Path, model: Path) -> tuple[set[str], set[str]]:
    """Names of the stored tensors, and of those with other bits than in the base."""
    before, after = load_file(base / "model.safetensors"), load_file(model / "model.safetensors")
    assert before.keys() == after.keys()
    return set(before), {name for name in before if not torch.equal(before[name], after[name])}


def require_same_class(base: Path, model: Path) -> None:
    from transformers import AutoModelForImageTextToText

    network, info = AutoModelForImageTextToText.from_pretrained(model, output_loading_info=True)
    kind = json.loads((base / "config.json").read_text(encoding="utf-8"))["architectures"]
    assert [type(network).__name__] == kind and not info["missing_keys"] and not info["unexpected_keys"]
    assert (model / "preprocessor_config.json").read_bytes() == (base / "preprocessor_config.json").read_bytes()
    require_kept(*(json.loads((folder / "config.json").read_text(encoding="utf-8")) for folder in (base, model)))


def require_kept(before: Any, after: Any) -> None:
    """The config is the same; transformers may add the dtype to its parts."""
    if not isinstance(before, dict):
        assert before == after
        return
    assert before.keys() - {"_name_or_path"} <= after.keys() <= before.keys() | {"dtype"}
    for key in before.keys() & after.keys():
        require_kept(before[key], after[key])


@pytest.mark.parametrize("name", FULL)
def test_full_training_leaves_the_tower_as_it_was(name: str, model_of: ModelOf, tmp_path: Path) -> None:
    base = model_of(name)
    network = load_network(base, "auto", CPU)
    frozen = freeze_beside_text(network)
    assert frozen and all(0 < share < 1 for share in frozen.values())
    cast_weights(network, "bfloat16-stochastic")  # rounds what is trained, and not the tower
    cast_weights(network, "float32")
    train(network)
    save_model(network.to(network.config.dtype), load_tokenizer(base), tmp_path / "model", {}, base)
    names, different = changed(base, tmp_path / "model")
    tower = {each for each in names if each.startswith(TOWERS[name])}
    assert tower and not tower & different
    assert sum(load_file(base / "model.safetensors")[each].numel() for each in tower) == round(
        sum(frozen.values()) * sum(p.numel() for p in network.parameters())
    )
    assert {each for each in names - tower if "proj" in each} & different
    require_same_class(base, tmp_path / "model")


@pytest.mark.parametrize("name", ADAPTED)
def test_an_adapter_is_in_the_language_model_only(name: str, model_of: ModelOf, tmp_path: Path) -> None:
    base = model_of(name)
    network: Any = add_adapter(load_network(base, "auto", CPU), AdapterConfig(r=2, alpha=8), seed=0)
    of_text = {id(parameter) for parameter in decoder_of(network).parameters()}
    adapted = {each: p for each, p in network.named_parameters() if "lora_" in each}
    assert adapted and all(id(p) in of_text for each, p in adapted.items() if "lm_head" not in each)
    train(network)
    save_adapter(network, tmp_path / "adapter", {"base": str(base), "base_fingerprint": fingerprint(base)})
    merge(base, tmp_path / "adapter", tmp_path / "merged", choose_precision("float32", "cpu"), texts=["脚気"])
    _, different = changed(base, tmp_path / "merged")
    assert different and not any(each.startswith(TOWERS[name]) for each in different)
    require_same_class(base, tmp_path / "merged")


def test_a_4_bit_base_keeps_its_tower(model_of: ModelOf, tmp_path: Path) -> None:
    base = model_of("Qwen3VLForConditionalGeneration")
    layers = layers_in_4_bits(base)
    assert layers and all(name.startswith("model.language_model.layers.") for name in layers)
    quantized = AdapterConfig(r=2, alpha=8, quantization="nf4")
    network: Any = add_adapter(load_network(base, torch.float32, CPU, quantization="nf4"), quantized, seed=0)
    network.train()
    train(network)
    origin = {"base": str(base), "base_fingerprint": fingerprint(base), "quantization": "nf4"}
    save_adapter(network, tmp_path / "adapter", origin)
    merge(base, tmp_path / "adapter", tmp_path / "merged", choose_precision("float32", "cpu"), texts=["脚気"])
    _, different = changed(base, tmp_path / "merged")
    assert different and not any(each.startswith("model.visual") for each in different)
    require_same_class(base, tmp_path / "merged")


def test_every_tiny_class_with_a_tower_is_tried() -> None:
    assert TOWERS.keys() == {name for name in CLASSES if name.endswith("ForConditionalGeneration")}
