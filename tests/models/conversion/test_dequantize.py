"""Weights in FP8 and MXFP4 are dequantized to their exact values."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jmedllm.deploy.preflight import require_loadable, require_mergeable
from jmedllm.errors import InputError
from jmedllm.models.conversion.dequantize import dequantize
from jmedllm.models.loading import load_structure
from jmedllm.training.lora import AdapterConfig

Tensors = dict[str, torch.Tensor]
BLOCK = 16
FOURS = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def quantized(base: Path, folder: Path, tensors: Tensors, **settings: Any) -> Path:
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def in_fp8(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """Projections in 8 bits with a scale for each block, and what they stand for."""
    stored, meant = dict(tensors), dict(tensors)
    for name, weight in tensors.items():
        if "_proj.weight" in name:
            blocks = weight.unflatten(0, (-1, BLOCK)).unflatten(2, (-1, BLOCK))
            scales = blocks.abs().amax(dim=(1, 3), keepdim=True) / 448
            eights = (blocks / scales).to(torch.float8_e4m3fn)
            stored[name] = eights.reshape(weight.shape)
            stored[f"{name}_scale_inv"] = scales[:, 0, :, 0].contiguous()
            meant[name] = (eights.float() * scales).reshape(weight.shape)
    return stored, meant


def in_mxfp4(tensors: Tensors) -> tuple[Tensors, Tensors]:
    """Experts in 4 bits, 32 numbers to a scale, as gpt-oss has them: [experts, out, in / 32, 16 bytes]."""
    stored, meant = dict(tensors), dict(tensors)
    generator = torch.Generator().manual_seed(0)
    for name, weight in tensors.items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            experts, columns, rows = weight.shape
            codes = torch.randint(16, (experts, rows, columns // 32, 32), generator=generator, dtype=torch.uint8)
            powers = torch.randint(120, 130, (experts, rows, columns // 32), generator=generator, dtype=torch.uint8)
            del stored[name]
            stored[f"{name}_blocks"] = (codes[..., ::2] | codes[..., 1::2] << 4).contiguous()
            stored[f"{name}_scales"] = powers
            values = FOURS[codes.int()] * 2.0 ** (powers[..., None].float() - 127)
            meant[name] = values.flatten(2).transpose(1, 2)
    return stored, meant


CASES: dict[str, tuple[Callable[[Tensors], tuple[Tensors, Tensors]], dict[str, Any]]] = {
    "LlamaForCausalLM": (in_fp8, {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}),
    "Gemma3ForConditionalGeneration": (in_fp8, {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}),
    "GptOssForCausalLM": (in_mxfp4, {"quant_method": "mxfp4"}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_dequantized_weights_have_the_values_of_their_bytes_and_scales(
    name: str, dtype: torch.dtype, model_of: Callable[[str], Path], tmp_path: Path
) -> None:
    quantize, settings = CASES[name]
    stored, meant = quantize(load_file(model_of(name) / "model.safetensors"))
    source = quantized(model_of(name), tmp_path / "source", stored, **settings)
    dequantize(source, tmp_path / "plain", dtype)
    found = load_file(tmp_path / "plain" / "model.safetensors")
    assert found.keys() == meant.keys()
    for key, value in meant.items():
        assert torch.equal(found[key], value.to(dtype)), key
    assert "quantization_config" not in json.loads((tmp_path / "plain" / "config.json").read_text(encoding="utf-8"))
    require_loadable(tmp_path / "plain", load_structure(tmp_path / "plain"))
    require_mergeable(tmp_path / "plain", AdapterConfig(r=4), is_rewritten=False)


def test_what_cannot_be_dequantized_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="its weights are not quantized; leave dequantize out"):
        dequantize(tiny_model, tmp_path / "plain", torch.float32)
    tensors = load_file(tiny_model / "model.safetensors")
    gptq = quantized(tiny_model, tmp_path / "gptq", tensors, quant_method="gptq")
    with pytest.raises(InputError, match=r"config.json states GPTQ \(quantization_config\), but all its tensors are"):
        dequantize(gptq, tmp_path / "plain", torch.float32)
    (name, weight), *_ = tensors.items()
    hqq = quantized(tiny_model, tmp_path / "hqq", tensors | {name: weight.to(torch.int8)}, quant_method="hqq")
    with pytest.raises(
        InputError, match=r"its weights are quantized \(hqq\) in a way that cannot be dequantized here"
    ):
        dequantize(hqq, tmp_path / "plain", torch.float32)
    assert not (tmp_path / "plain").exists()
