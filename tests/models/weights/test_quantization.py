"""Quantized weights are recognized by config.json and by their tensors, and dequantized to their exact values."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import build_tiny
from jmedllm.models.conversion.dequantize import dequantize
from jmedllm.models.loading import load_network
from jmedllm.models.weights.quantization import quantization_of
from quantized_models import KINDS, write_quantized

ModelOf = Callable[[str], Path]
CPU = torch.device("cpu")


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
