"""Quantized weights are recognized by config.json and by their tensors, and dequantized to their exact values."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import FineGrainedFP8Config, Mxfp4Config

from conftest import build_tiny
from jmedllm.errors import InputError
from jmedllm.models.conversion.dequantize import dequantize
from jmedllm.models.loading import load_network, load_structure
from jmedllm.models.weights.quantization import quantization_in, quantization_of, require_runnable
from quantized_models import KINDS, Kind, gptq_kind, gptq_mixed, gptq_short, gptq_v2, write_quantized

ModelOf = Callable[[str], Path]
CPU = torch.device("cpu")
SAMPLE = ("FP8, tensor", "GPTQ", "MXFP4")
"""Kinds that are loaded in the usual tests; the exhaustive tests load all."""


@pytest.fixture(scope="module")
def base_for(model_of: ModelOf, tmp_path_factory: pytest.TempPathFactory) -> ModelOf:
    """Gives the model that is quantized; bitsandbytes on a CPU needs rows as wide as its blocks of 64."""
    wide = build_tiny(tmp_path_factory.mktemp("wide") / "model", architecture="llama", hidden_size=64)
    others = {"MXFP4": model_of("GptOssForCausalLM"), "NF4": wide, "FP4": wide}
    return lambda kind: others.get(kind) or model_of("LlamaForCausalLM")


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_recognized_and_dequantized_exactly(name: str, base_for: ModelOf, tmp_path: Path) -> None:
    kind, base = KINDS[name], base_for(name)
    meant = write_quantized(kind, base, tmp_path / "source")
    found = quantization_of(tmp_path / "source")
    assert found is not None and (found.name, found.title) == (kind.name, kind.title)
    dequantize(tmp_path / "source", tmp_path / "plain", torch.bfloat16)
    tensors = load_file(tmp_path / "plain" / "model.safetensors")
    assert tensors.keys() == meant.keys()
    for key, value in meant.items():
        assert torch.equal(tensors[key], value.bfloat16()), key
    config = json.loads((tmp_path / "plain" / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in config and config["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    "name", [*SAMPLE, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in KINDS if n not in SAMPLE)]
)
def test_loading_decodes_to_what_is_written(name: str, base_for: ModelOf, tmp_path: Path) -> None:
    write_quantized(KINDS[name], base_for(name), tmp_path / "source")
    dequantize(tmp_path / "source", tmp_path / "plain", torch.bfloat16)
    direct = load_network(tmp_path / "source", torch.bfloat16, CPU, dequantize=True).state_dict()
    plain = load_network(tmp_path / "plain", "auto", CPU).state_dict()
    assert direct.keys() == plain.keys()
    assert all(torch.equal(direct[key], plain[key]) for key in plain)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_is_recognized_by_its_tensors_alone(name: str, base_for: ModelOf, tmp_path: Path) -> None:
    kind = KINDS[name]
    write_quantized(kind, base_for(name), tmp_path / "source", key="")
    found = quantization_of(tmp_path / "source")
    assert found is not None and found.name == (kind.by_tensors or kind.name)


PLACES = ["quantization_config", "text_config.quantization_config", "compression_config"]


@pytest.mark.parametrize("place", PLACES)
def test_config_json_may_state_it_in_several_places(place: str, model_of: ModelOf, tmp_path: Path) -> None:
    write_quantized(KINDS["AWQ"], model_of("Gemma3ForConditionalGeneration"), tmp_path / "source", key=place)
    found = quantization_of(tmp_path / "source")
    assert found is not None and found.name == "awq"
    dequantize(tmp_path / "source", tmp_path / "plain", torch.bfloat16)
    assert quantization_of(tmp_path / "plain") is None
    assert quantization_in(json.loads((tmp_path / "plain" / "config.json").read_text(encoding="utf-8"))) is None


def test_files_may_split_numbers_and_scales(base_for: ModelOf, tmp_path: Path) -> None:
    meant = write_quantized(KINDS["FP8, blocks of 16"], base_for("FP8"), tmp_path / "source")
    whole = tmp_path / "source" / "model.safetensors"
    tensors = load_file(whole)
    whole.unlink()
    files: dict[str, str] = {}
    for number, is_scale in enumerate((False, True), 1):
        name = f"model-0000{number}-of-00002.safetensors"
        mine = {key: value for key, value in tensors.items() if key.endswith("_scale_inv") == is_scale}
        save_file(mine, tmp_path / "source" / name, metadata={"format": "pt"})
        files |= dict.fromkeys(mine, name)
    index = tmp_path / "source" / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}), encoding="utf-8")
    dequantize(tmp_path / "source", tmp_path / "plain", torch.bfloat16)
    loaded = load_network(tmp_path / "plain", "auto", CPU).state_dict()
    assert all(torch.equal(loaded[key], value.bfloat16()) for key, value in meant.items())


def test_blocks_at_the_border_are_smaller(tmp_path: Path) -> None:
    base = build_tiny(tmp_path / "base", architecture="qwen3", hidden_size=192)
    meant = write_quantized(KINDS["FP8, blocks of 128"], base, tmp_path / "source")
    scales = load_file(tmp_path / "source" / "model.safetensors")
    assert scales["model.layers.0.self_attn.q_proj.weight_scale_inv"].shape == (2, 2)
    loaded = load_network(tmp_path / "source", torch.bfloat16, CPU, dequantize=True).state_dict()
    assert all(torch.equal(loaded[key], value.bfloat16()) for key, value in meant.items())


# class, kind, transformers' own config
OTHERS: list[tuple[str, str, Any]] = [
    ("GptOssForCausalLM", "MXFP4", Mxfp4Config(dequantize=True)),
    ("Qwen3MoeForCausalLM", "FP8, blocks of 16", FineGrainedFP8Config(dequantize=True)),
    ("DeepseekV3ForCausalLM", "FP8, tensor", FineGrainedFP8Config(dequantize=True)),
    ("Gemma3ForConditionalGeneration", "FP8, blocks of 16", FineGrainedFP8Config(dequantize=True)),
]


@pytest.mark.parametrize(("name", "kind", "config"), OTHERS)
def test_transformers_dequantizes_to_the_same_weights(
    name: str, kind: str, config: Any, model_of: ModelOf, tmp_path: Path
) -> None:
    write_quantized(KINDS[kind], model_of(name), tmp_path / "source")
    network = load_network(tmp_path / "source", torch.bfloat16, CPU, dequantize=True)
    theirs = type(network).from_pretrained(tmp_path / "source", dtype=torch.bfloat16, quantization_config=config)
    mine, other = network.state_dict(), theirs.state_dict()
    assert mine.keys() == other.keys()
    for key, value in other.items():
        # transformers keeps numbers in float32 that are stored so, beside weights in FP8
        assert torch.equal(mine[key], value.to(mine[key].dtype)), key
        assert mine[key].dtype == (torch.float32 if "e_score_correction_bias" in key else torch.bfloat16)


def _rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def _without(end: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda tensors: {name: value for name, value in tensors.items() if not name.endswith(end)}


def _beside(number: str, end: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Adds a tensor beside each one whose name has this end."""
    return lambda tensors: (
        tensors
        | {name.removesuffix(number) + end: value(tensor) for name, tensor in tensors.items() if name.endswith(number)}
    )


# what published models have: the kind, its config, and how the tensors differ
PUBLISHED: dict[str, tuple[Kind, Any]] = {
    "GPTQ with layers of 8 bits among those of 4 (dynamic)": (gptq_kind(gptq_mixed, 4, group_size=16), dict),
    "GPTQ v2 as gptqmodel 5 states it": (gptq_kind(gptq_v2, 4, group_size=16, format="gptq_v2"), dict),
    "GPTQ with a smaller last group": (gptq_kind(gptq_short, 4, group_size=48), dict),
    "GPTQ with a smaller last group, without g_idx": (gptq_kind(gptq_short, 4, group_size=48), _without("g_idx")),
    "GPTQ with biases of zeros": (
        KINDS["GPTQ"],
        _beside("qweight", "bias", lambda words: torch.zeros(words.shape[1])),
    ),
    "compressed-tensors with an unused g_idx": (
        KINDS["compressed INT4"],
        _beside("weight_packed", "weight_g_idx", lambda words: torch.full((8 * words.shape[1],), -1).int()),
    ),
    "FP8 with one scale for keys and values": (
        KINDS["FP8, blocks of 16"],
        lambda tensors: tensors | {"model.layers.0.self_attn.kv_scale": torch.ones(1)},
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_published_models_have_is_decoded_exactly(name: str, base_for: ModelOf, tmp_path: Path) -> None:
    kind, change = PUBLISHED[name]
    meant = write_quantized(kind, base_for(""), tmp_path / "source")
    _rewritten(tmp_path / "source", change)
    dequantize(tmp_path / "source", tmp_path / "plain", torch.bfloat16)
    tensors = load_file(tmp_path / "plain" / "model.safetensors")
    assert tensors.keys() == meant.keys()
    assert all(torch.equal(tensors[key], value.bfloat16()) for key, value in meant.items())


# kind, end of the name of a tensor that a copy lost: the message
LOST = [
    ("FP8, blocks of 16", "q_proj.weight_scale_inv", "q_proj.weight is stored as F8_E4M3, but has no scale"),
    ("compressed INT8", "q_proj.weight_scale", "q_proj.weight is stored as I8, without a scale"),
    ("GPTQ", "q_proj.scales", "q_proj.weight is missing"),
]


@pytest.mark.parametrize(("name", "end", "message"), LOST)
def test_numbers_without_their_scale_are_refused(
    name: str, end: str, message: str, base_for: ModelOf, tmp_path: Path
) -> None:
    write_quantized(KINDS[name], base_for(name), tmp_path / "source")
    _rewritten(tmp_path / "source", _without(f"layers.0.self_attn.{end}"))
    with pytest.raises(InputError, match=message):
        dequantize(tmp_path / "source", tmp_path / "plain", torch.bfloat16)
    with pytest.raises(InputError, match=message):
        load_network(tmp_path / "source", torch.bfloat16, CPU, dequantize=True)


def test_gptq_states_its_version_in_a_config(base_for: ModelOf, tmp_path: Path) -> None:
    meant = write_quantized(KINDS["GPTQ v2"], base_for("GPTQ"), tmp_path / "source", key="")
    with pytest.raises(InputError, match=r"zeros depend on the version that it states; copy config\.json again"):
        dequantize(tmp_path / "source", tmp_path / "plain", torch.bfloat16)
    stated = json.dumps(dict(KINDS["GPTQ v2"].config))
    (tmp_path / "source" / "quantize_config.json").write_text(stated, encoding="utf-8")
    dequantize(tmp_path / "source", tmp_path / "plain", torch.bfloat16)
    tensors = load_file(tmp_path / "plain" / "model.safetensors")
    assert all(torch.equal(tensors[key], value.bfloat16()) for key, value in meant.items())


# what a directory contains: the message
REFUSED: dict[str, tuple[dict[str, Any] | None, str | None, str]] = {
    "another method": ({"quant_method": "hqq"}, "GPTQ", r"quantized \(hqq\) in a way that cannot be dequantized here"),
    "another layout": ({"quant_method": "awq", "bits": 4}, "GPTQ", "config.json states AWQ, but .* stored like GPTQ"),
    "only a config": ({"quant_method": "mxfp4"}, None, r"states MXFP4 .* all its tensors are plain numbers \(F32\)"),
    "nothing quantized": (None, None, "its weights are not quantized; leave dequantize out"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_dequantized_is_one_line(name: str, base_for: ModelOf, tmp_path: Path) -> None:
    config, kind, message = REFUSED[name]
    source = tmp_path / "source"
    if kind:
        write_quantized(KINDS[kind], base_for(kind), source)
    else:
        copytree(base_for(""), source)
    stated = json.loads((source / "config.json").read_text(encoding="utf-8"))
    stated |= {"quantization_config": config} if config else {}
    (source / "config.json").write_text(json.dumps(stated), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        dequantize(source, tmp_path / "plain", torch.bfloat16)
    assert not (tmp_path / "plain").exists()


def test_scales_that_do_not_fit_are_named(base_for: ModelOf, tmp_path: Path) -> None:
    write_quantized(KINDS["FP8, blocks of 16"], base_for("FP8"), tmp_path / "source")
    file, name = tmp_path / "source" / "model.safetensors", "model.layers.0.mlp.gate_proj.weight_scale_inv"
    tensors = load_file(file)
    save_file(tensors | {name: tensors[name][:3].contiguous()}, file, metadata={"format": "pt"})
    message = "mlp.gate_proj.weight: 3 scales do not fit 64 rows in blocks of 16; copy config.json and weights again"
    with pytest.raises(InputError, match=message):
        dequantize(tmp_path / "source", tmp_path / "plain", torch.bfloat16)


# damaged values of a quantization_config
DAMAGED: dict[str, dict[str, Any]] = {
    "compressed INT4": {"config_groups": {"group_0": 3}},
    "FP8, blocks of 16": {"weight_block_size": [0, 0]},
    "GPTQ": {"bits": "four"},
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_config_is_one_line(name: str, base_for: ModelOf, tmp_path: Path) -> None:
    write_quantized(KINDS[name], base_for(name), tmp_path / "source")
    file = tmp_path / "source" / "config.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    values["quantization_config"] |= DAMAGED[name]
    file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(InputError, match=r"proj.weight: cannot be decoded as .*; copy config.json and weights again"):
        dequantize(tmp_path / "source", tmp_path / "plain", torch.bfloat16)
    assert not (tmp_path / "plain").exists()


RUNS = {name: KINDS[name].name.startswith("bitsandbytes") for name in ("FP8, tensor", "GPTQ", "AWQ", "NF4", "MXFP4")}


@pytest.mark.parametrize(("name", "runs"), RUNS.items())
def test_what_this_machine_lacks_is_named(name: str, runs: bool, base_for: ModelOf, tmp_path: Path) -> None:
    write_quantized(KINDS[name], base_for(name), tmp_path / "source")
    found = quantization_of(tmp_path / "source")
    if runs:
        require_runnable(found, tmp_path / "source", CPU)
        assert load_structure(tmp_path / "source").config.model_type == "llama"
        return
    with pytest.raises(
        InputError, match=r"transformers needs .*; load them in bfloat16 with --dequantize \(base\.deq"
    ):
        require_runnable(found, tmp_path / "source", CPU)
