"""What merge, or a later load, would refuse is refused before anything is trained."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from jmedllm.cli import app
from jmedllm.deploy.preflight import require_loadable, require_mergeable
from jmedllm.errors import InputError
from jmedllm.models.loading import load_network, load_structure
from jmedllm.models.save import save_model
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.precision import choose_precision
from jmedllm.training.lora import AdapterConfig
from quantized_models import KINDS, write_quantized
from tiny_classes import CLASSES

ModelOf = Callable[[str], Path]
FLOAT32 = choose_precision("float32", "cpu")

RECIPE = """
name: early
precision: float32
threads: 1
base: {{path: {base}}}
prompt: {{pack: plain}}
mpeft:
  questions: [{{benchmark: demo, languages: [ja]}}]
  steps: 2
  learning_rate: 1e-3
  batch_size: 4
  block_size: 256
  adapter: {{r: 4, alpha: 8, targets: {targets}, kind: {kind}, dropout: {dropout}}}
"""


def recipe_for(base: Path, folder: Path, targets: str = "all-linear", kind: str = "lora", dropout: str = "0") -> Path:
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(base=base, targets=targets, kind=kind, dropout=dropout), encoding="utf-8")
    return path


def run(*words: str | Path) -> str:
    """What a command says: the line it refuses with, or its output."""
    found = CliRunner().invoke(app, [str(word) for word in words])
    assert found.exit_code == 0 or isinstance(found.exception, InputError), found.exception
    return f"refused: {found.exception}" if found.exception else found.output


def copy_of(base: Path, folder: Path, **config: Any) -> Path:
    shutil.copytree(base, folder)
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | config), encoding="utf-8")
    return folder


def in_fp8(base: Path, folder: Path, **config: Any) -> Path:
    """As published FP8 checkpoints are: projections in 8 bits, each with a scale where the config says so."""
    copy_of(base, folder, **config)
    stored: dict[str, torch.Tensor] = {}
    for name, weight in load_file(base / "model.safetensors").items():
        stored[name] = weight
        if "proj" in name and weight.dim() == 2:
            scale = weight.abs().max() / 448
            stored[name] = (weight / scale).to(torch.float8_e4m3fn)
            if config:
                stored[f"{name}_scale_inv"] = scale.reshape(1, 1)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# a kind of stored weights, and the place in config.json that states it
QUANTIZED = [
    ("FP8, blocks of 16", "quantization_config"),
    ("GPTQ", "quantization_config"),
    ("AWQ", "quantization_config"),
    ("compressed INT4", "compression_config"),
    ("FBGEMM", "text_config.quantization_config"),
]


@pytest.mark.parametrize(("kind", "key"), QUANTIZED)
def test_a_quantized_base_is_refused_before_anything(kind: str, key: str, tiny_model: Path, tmp_path: Path) -> None:
    write_quantized(KINDS[kind], tiny_model, tmp_path / "base", key=key)
    recipe = recipe_for(tmp_path / "base", tmp_path)
    for words in (
        ("run", recipe, "--check"),
        ("plan", recipe, "--gpu", "24GiB"),
        ("tune", recipe, "--output", tmp_path / "run"),
    ):
        message = run(*words)
        assert message.startswith(
            f"refused: base {tmp_path / 'base'}: its weights are quantized ({KINDS[kind].title}), "
        )
        assert "set base.dequantize: true" in message


def test_a_quantization_that_only_config_json_states_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    base = copy_of(tiny_model, tmp_path / "base", quantization_config={"quant_method": "awq", "bits": 4})
    message = run("run", recipe_for(base, tmp_path), "--check")
    assert (
        "config.json states AWQ (quantization_config), but all its tensors are plain numbers (F32); remove" in message
    )


def test_weights_in_8_bits_are_refused_though_no_config_says_so(tiny_model: Path, tmp_path: Path) -> None:
    base = in_fp8(tiny_model, tmp_path / "base")
    with pytest.raises(InputError, match=r"stored in 8 bits, but config.json states no quantization"):
        require_mergeable(base, AdapterConfig(r=4), is_rewritten=False)


@pytest.mark.parametrize("settings", ["kind: dora", "kind: pissa", "dropout: 0.1"])
def test_experts_that_a_kind_of_adapter_does_not_support_stay_frozen_and_are_named(
    settings: str, model_of: ModelOf, tmp_path: Path
) -> None:
    base = model_of("Qwen3MoeForCausalLM")
    message = run("run", recipe_for(base, tmp_path, **dict([settings.split(": ")])), "--check")
    assert re.search(
        r"adapts \d+% of all weights and leaves frozen model\.layers\.\*\.mlp\.experts\.gate_up_", message
    )
    assert "mpeft: routed experts are frozen, because kind " in message
    assert "choose kind lora or rslora without dropout, or set experts: freeze" in message and "valid" in message


def test_experts_that_stay_in_bfloat16_are_counted(model_of: ModelOf) -> None:
    found = require_mergeable(
        model_of("MixtralForCausalLM"), AdapterConfig(r=2, quantization="nf4"), is_rewritten=False
    )
    assert 0.4 < found.unquantized < 1
    assert not require_mergeable(model_of("MixtralForCausalLM"), AdapterConfig(r=2), is_rewritten=False).unquantized


def test_a_target_that_shares_its_weights_with_another_layer_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    base = copy_of(tiny_model, tmp_path / "base", tie_word_embeddings=True)
    with pytest.raises(InputError, match="shares its weights"):
        require_mergeable(base, AdapterConfig(r=4, targets=["lm_head"]), is_rewritten=False)


# class: what an adapter on all linear layers leaves frozen, and what stage 1 would leave out
LEFT: dict[str, tuple[set[str], dict[str, int]]] = {
    "LlamaForCausalLM": (set(), {}),
    "GptOssForCausalLM": (
        {"model.layers.*.mlp.experts.gate_up_proj_bias"},
        {},
    ),
    "Gemma3ForConditionalGeneration": ({"model.vision_tower", "model.multi_modal_projector"}, {}),
    "Qwen3_5ForConditionalGeneration": ({"model.visual"}, {}),
}


@pytest.mark.parametrize("name", LEFT)
def test_frozen_weights_and_left_out_items_are_counted(name: str, model_of: ModelOf) -> None:
    frozen, left_out = LEFT[name]
    found = require_mergeable(model_of(name), AdapterConfig(r=4), is_rewritten=True)
    assert found.frozen.keys() == frozen and all(0.01 <= share < 1 for share in found.frozen.values())
    assert 0.1 < found.adapted <= 1 - sum(found.frozen.values())
    assert require_loadable(model_of(name), load_structure(model_of(name))) == left_out


def test_frozen_weights_are_printed(model_of: ModelOf, tmp_path: Path) -> None:
    message = run("run", recipe_for(model_of("Gemma3ForConditionalGeneration"), tmp_path), "--check")
    assert " of all weights and leaves frozen model.vision_tower " in message


@pytest.mark.parametrize("name", CLASSES)
def test_what_stage_1_writes_loads_again(name: str, model_of: ModelOf, tmp_path: Path) -> None:
    base = model_of(name)
    require_loadable(base, load_structure(base))
    network = load_network(base, "auto", torch.device("cpu"))
    save_model(network, load_tokenizer(base), tmp_path / "model", {}, base)
    again = load_network(tmp_path / "model", "auto", torch.device("cpu"))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    assert type(again).__name__ == name
    assert (tmp_path / "model" / "preprocessor_config.json").read_bytes() == (
        base / "preprocessor_config.json"
    ).read_bytes()
