"""Tiny models whose weights are stored quantized, written by the published formats, with the values they stand for."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import bitsandbytes.functional as bnb
import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]
Stored = tuple[Tensors, torch.Tensor]
"""Tensors of one weight by the end of their names, and the value that they stand for."""

E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6]
FP8 = torch.float8_e4m3fn


def _codes(shape: tuple[int, ...], bits: int) -> torch.Tensor:
    return torch.randint(1 << bits, shape, generator=torch.Generator().manual_seed(sum(shape)))


def _blocks(weight: torch.Tensor, block: int) -> Stored:
    """FP8 with a scale for every `block` rows and columns; the last blocks may be smaller."""
    rows, columns = (-(-size // block) for size in weight.shape)
    scales, eights, meant = torch.zeros(rows, columns), torch.zeros(weight.shape, dtype=FP8), torch.zeros_like(weight)
    for row in range(rows):
        for column in range(columns):
            here = slice(row * block, (row + 1) * block), slice(column * block, (column + 1) * block)
            scales[row, column] = weight[here].abs().max() / 448
            eights[here] = (weight[here] / scales[row, column]).to(FP8)
            meant[here] = eights[here].float() * scales[row, column]
    return {".weight": eights, ".weight_scale_inv": scales}, meant


def fp8_blocks(weight: torch.Tensor) -> Stored:
    return _blocks(weight, 128)


def fp8_small_blocks(weight: torch.Tensor) -> Stored:
    return _blocks(weight, 16)


def fp8_tensor(weight: torch.Tensor) -> Stored:
    scale = weight.abs().max() / 448
    eights = (weight / scale).to(FP8)
    return {".weight": eights, ".weight_scale_inv": scale, ".activation_scale": scale}, eights.float() * scale


def fp8_rows(weight: torch.Tensor) -> Stored:
    scale = weight.abs().amax(1, keepdim=True) / 448
    eights = (weight / scale).to(FP8)
    return {".weight": eights, ".weight_scale": scale}, eights.float() * scale


def mxfp8(weight: torch.Tensor) -> Stored:
    powers = _codes((weight.shape[0], weight.shape[1] // 32), 3) + 120
    eights = weight.to(FP8)
    meant = eights.float() * torch.exp2(powers.float() - 127).repeat_interleave(32, 1)
    return {".weight": eights, ".weight_scale_inv": powers.to(torch.uint8)}, meant


def int8_rows(weight: torch.Tensor) -> Stored:
    scale = weight.abs().amax(1, keepdim=True) / 127
    eights = (weight / scale).round().to(torch.int8)
    return {".weight": eights, ".weight_scale": scale}, eights.float() * scale


def _words(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """Codes of each row, one after another from the lowest bit, in words of 32 bits."""
    rows = []
    for row in codes.tolist():
        whole = sum(code << bits * index for index, code in enumerate(row))
        words = [whole >> 32 * index & 0xFFFFFFFF for index in range(-(-len(row) * bits // 32))]
        rows.append([word - (1 << 32) if word >> 31 else word for word in words])
    return torch.tensor(rows, dtype=torch.int32)


def _gptq(weight: torch.Tensor, bits: int, *, group: int = 16, is_ordered: bool = True, first_zero: int = 1) -> Stored:
    out, columns = weight.shape
    groups = -(-columns // group)
    codes, zeros = _codes((out, columns), bits), _codes((out, groups), bits)
    scales = torch.rand(out, groups, generator=torch.Generator().manual_seed(0)).half() / 16
    index = torch.arange(columns) // group
    index = index if is_ordered else index.flip(0)
    meant = (codes - zeros[:, index]).float() * scales.float()[:, index]
    packed = {
        ".qweight": _words(codes, bits).T.contiguous(),
        ".qzeros": _words((zeros.T - first_zero) % (1 << bits), bits),
        ".scales": scales.T.contiguous(),
        ".g_idx": index.int(),
    }
    return packed, meant


def gptq(weight: torch.Tensor) -> Stored:
    return _gptq(weight, 4)


def gptq_3_bits(weight: torch.Tensor) -> Stored:
    return _gptq(weight, 3, group=32)


def gptq_reordered(weight: torch.Tensor) -> Stored:
    return _gptq(weight, 8, is_ordered=False)


def gptq_v2(weight: torch.Tensor) -> Stored:
    return _gptq(weight, 4, first_zero=0)


def gptq_mixed(weight: torch.Tensor) -> Stored:
    """More bits for the layers with 64 inputs."""
    return _gptq(weight, 8 if weight.shape[1] == 64 else 4)


def gptq_short(weight: torch.Tensor) -> Stored:
    """Groups of 48 columns, of which the last is smaller."""
    return _gptq(weight, 4, group=48)


def awq(weight: torch.Tensor) -> Stored:
    out, columns = weight.shape
    codes, zeros = _codes((columns, out), 4), _codes((columns // 16, out), 4)
    scales = torch.rand(columns // 16, out, generator=torch.Generator().manual_seed(0)).half() / 16
    meant = (codes - zeros.repeat_interleave(16, 0)).float() * scales.float().repeat_interleave(16, 0)

    def interleaved(each: torch.Tensor) -> torch.Tensor:
        return _words(each.reshape(-1, 8)[:, [0, 2, 4, 6, 1, 3, 5, 7]], 4).reshape(len(each), -1)

    return {".qweight": interleaved(codes), ".qzeros": interleaved(zeros), ".scales": scales}, meant.T


def packed_integers(weight: torch.Tensor, *, bits: int = 4, zeros: bool = False) -> Stored:
    out, columns = weight.shape
    codes = _codes((out, columns), bits)
    scales = torch.rand(out, columns // 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    zero = _codes((out, columns // 16), bits) if zeros else torch.full((out, columns // 16), 1 << bits - 1)
    meant = (codes - zero.repeat_interleave(16, 1)).float() * scales.float().repeat_interleave(16, 1)
    packed = {
        ".weight_packed": _words(codes, bits),
        ".weight_scale": scales,
        ".weight_shape": torch.tensor([out, columns]),
    }
    return packed | ({".weight_zero_point": _words(zero.T, bits).T.contiguous()} if zeros else {}), meant


def packed_with_zeros(weight: torch.Tensor) -> Stored:
    return packed_integers(weight, zeros=True)


def nvfp4(weight: torch.Tensor) -> Stored:
    codes, scale, whole = _codes((*weight.shape,), 4), torch.tensor(0.25).to(FP8), torch.tensor([12.0])
    scales = scale.expand(weight.shape[0], weight.shape[1] // 16).contiguous()
    packed = (codes[:, ::2] | codes[:, 1::2] << 4).to(torch.uint8)
    meant = torch.tensor(E2M1)[codes] * (0.25 / 12.0)
    return {".weight_packed": packed, ".weight_scale": scales, ".weight_global_scale": whole}, meant


def modelopt_nvfp4(weight: torch.Tensor) -> Stored:
    codes, scale, whole = _codes((*weight.shape,), 4), torch.tensor(2.0).to(FP8), torch.tensor(0.01)
    scales = scale.expand(weight.shape[0], weight.shape[1] // 16).contiguous()
    packed = (codes[:, ::2] | codes[:, 1::2] << 4).to(torch.uint8)
    meant = torch.tensor(E2M1)[codes] * (torch.tensor(2.0) * whole)
    beside = {".weight_scale": scales, ".weight_scale_2": whole, ".input_scale": whole}
    return {".weight": packed} | beside, meant


def _bitsandbytes(weight: torch.Tensor, kind: str, *, is_double: bool) -> Stored:
    packed, state = bnb.quantize_4bit(weight, quant_type=kind, compress_statistics=is_double)
    beside = {f".weight.{end}": tensor for end, tensor in state.as_dict(packed=True).items()}
    return {".weight": packed} | beside, bnb.dequantize_4bit(packed, state)


def nf4(weight: torch.Tensor) -> Stored:
    return _bitsandbytes(weight, "nf4", is_double=True)


def fp4(weight: torch.Tensor) -> Stored:
    return _bitsandbytes(weight, "fp4", is_double=False)


def llm_int8(weight: torch.Tensor) -> Stored:
    eights, scb, _ = bnb.int8_vectorwise_quant(weight.half())
    stored = {".weight": eights, ".SCB": scb, ".weight_format": torch.tensor(0, dtype=torch.uint8)}
    return stored, bnb.int8_vectorwise_dequant(eights, scb)


def mxfp4(weight: torch.Tensor) -> Stored:
    """Experts of gpt-oss: the parameter is [experts, in, out], the blocks are [experts, out, in / 32, 16]."""
    experts, columns, rows = weight.shape
    codes = _codes((experts, rows, columns // 32, 32), 4)
    powers = _codes((experts, rows, columns // 32), 3) + 120
    values = torch.tensor(E2M1)[codes] * 2.0 ** (powers[..., None].float() - 127)
    blocks = (codes[..., ::2] | codes[..., 1::2] << 4).to(torch.uint8)
    return {"_blocks": blocks, "_scales": powers.to(torch.uint8)}, values.flatten(2).transpose(1, 2)


PROJECTIONS, EXPERTS = ("_proj.weight",), ("gate_up_proj", "down_proj")


@dataclass(frozen=True)
class Kind:
    """A kind of quantized model.

    Attributes:
        name: name of the method.
        title: its name in messages.
        store: stores one weight.
        config: the quantization_config.
        ends: ends of the names of the weights that are quantized.
        by_tensors: the method that is assumed without a config.
    """

    name: str
    title: str
    store: Callable[[torch.Tensor], Stored]
    config: Mapping[str, Any]
    ends: tuple[str, ...] = PROJECTIONS
    by_tensors: str = ""


def _fp8(store: Callable[[torch.Tensor], Stored], block: list[int] | None) -> Kind:
    config = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": block}
    return Kind("fp8", "FP8", store, config)


def gptq_kind(store: Callable[[torch.Tensor], Stored], bits: int, **more: Any) -> Kind:
    return Kind("gptq", "GPTQ", store, {"quant_method": "gptq", "bits": bits, **more})


def _compressed(store: Callable[[torch.Tensor], Stored], form: str, **weights: Any) -> Kind:
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    config = {"quant_method": "compressed-tensors", "format": form, "config_groups": groups}
    return Kind("compressed-tensors", "compressed-tensors", store, config)


def _bits(store: Callable[[torch.Tensor], Stored], bits: int, **more: Any) -> Kind:
    config = {"quant_method": "bitsandbytes", f"load_in_{bits}bit": True, **more}
    return Kind(f"bitsandbytes_{bits}bit", f"bitsandbytes, {bits} bits", store, config)


KINDS = {
    "FP8, blocks of 128": _fp8(fp8_blocks, [128, 128]),
    "FP8, blocks of 16": _fp8(fp8_small_blocks, [16, 16]),
    "FP8, tensor": _fp8(fp8_tensor, None),
    "MXFP8": Kind("mxfp8", "MXFP8", mxfp8, {"quant_method": "mxfp8", "weight_block_size": [1, 32]}, by_tensors="fp8"),
    "FBGEMM": Kind(
        "fbgemm_fp8", "FBGEMM FP8", fp8_rows, {"quant_method": "fbgemm_fp8"}, by_tensors="compressed-tensors"
    ),
    "GPTQ": gptq_kind(gptq, 4, group_size=16),
    "GPTQ, 3 bits": gptq_kind(gptq_3_bits, 3, group_size=32),
    "GPTQ, reordered": gptq_kind(gptq_reordered, 8, group_size=16, desc_act=True),
    "GPTQ v2": gptq_kind(gptq_v2, 4, group_size=16, checkpoint_format="gptq_v2"),
    "AWQ": Kind("awq", "AWQ", awq, {"quant_method": "awq", "bits": 4, "version": "gemm", "zero_point": True}),
    "compressed FP8": _compressed(fp8_rows, "float-quantized", num_bits=8, type="float"),
    "compressed INT8": _compressed(int8_rows, "int-quantized", num_bits=8, type="int"),
    "compressed INT4": _compressed(packed_integers, "pack-quantized", num_bits=4, type="int"),
    "compressed INT4, zeros": _compressed(packed_with_zeros, "pack-quantized", num_bits=4, symmetric=False),
    "compressed NVFP4": _compressed(nvfp4, "nvfp4-pack-quantized", num_bits=4, type="float"),
    "ModelOpt NVFP4": Kind(
        "modelopt", "ModelOpt", modelopt_nvfp4, {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    ),
    "NF4": _bits(nf4, 4, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype="bfloat16"),
    "FP4": _bits(fp4, 4, bnb_4bit_quant_type="fp4"),
    "LLM.int8()": _bits(llm_int8, 8),
    "MXFP4": Kind("mxfp4", "MXFP4", mxfp4, {"quant_method": "mxfp4"}, EXPERTS),
}


def write_quantized(kind: Kind, base: Path, folder: Path, *, key: str = "quantization_config") -> Tensors:
    """Write a quantized copy of a model and return the values of its tensors.

    Args:
        key: place of the quantization in config.json; empty to leave it out.
    """
    copytree(base, folder)
    stored: Tensors = {}
    meant: Tensors = {}
    for name, weight in load_file(base / "model.safetensors").items():
        stored[name] = meant[name] = weight
        if name.endswith(kind.ends):
            del stored[name]
            tensors, meant[name] = kind.store(weight.float())
            start = name.removesuffix(".weight")
            stored |= {start + end: tensor.clone().contiguous() for end, tensor in tensors.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    if key:
        file = folder / "config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        part = config
        for each in key.split(".")[:-1]:
            part = part.setdefault(each, {})
        part[key.split(".")[-1]] = dict(kind.config)
        file.write_text(json.dumps(config), encoding="utf-8")
    return meant
