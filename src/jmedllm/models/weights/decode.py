"""Decode quantized weights: the published formats, in plain PyTorch.

Each function takes the tensors that store one weight and returns the weight in float32. All of them also work on the
device "meta", where they give only the shape.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch

from jmedllm.errors import InputError

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
"""Values of the 4-bit float E2M1 by their code (OCP Microscaling Formats 1.0, section 5.3.3)."""

E8M0_BIAS = 127
"""Exponent bias of E8M0, a scale of 8 bits that is a power of two (ibid., section 5.4.1)."""

FP8_BLOCK = 128
"""Rows and columns that share a scale in FP8 by DeepSeek-V3 (arXiv 2412.19437, section 3.3.2)."""

AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Position of each of 8 columns in a word of AWQ's `gemm` layout."""

Parts = Mapping[str, torch.Tensor]
"""The tensors that store a weight, by the end of their names; the numbers themselves are under ""."""

Decode = Callable[[Parts, Mapping[str, Any]], torch.Tensor]
"""Takes the tensors and the model's `quantization_config`."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which files store a quantized weight.

    Attributes:
        methods: keys of `METHODS` that use it; the first is assumed if config.json names none.
        numbers: end of the name of the tensor with the numbers.
        dtypes: safetensors dtypes of the numbers.
        weight: end of the name of the plain weight, which replaces `numbers`.
        decode: returns the weight.
        beside: ends of the names of the tensors that belong to it.
        optional: ends of the names of the tensors that may belong to it.
        read: ends of the names of small tensors whose values give the weight's shape.
        matches: whether tensors of these shapes have this layout, by the ends of their names.
    """

    methods: tuple[str, ...]
    numbers: str
    dtypes: tuple[str, ...]
    weight: str
    decode: Decode
    beside: tuple[str, ...]
    optional: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    matches: Callable[[Mapping[str, tuple[int, ...]]], bool] = field(default=lambda shapes: True)


def scaled(parts: Parts, config: Mapping[str, Any]) -> torch.Tensor:
    """Decode numbers with a scale for the tensor, each row, each group of columns, or each block.

    This is FP8 of DeepSeek-V3 and Qwen3 (`weight_scale_inv`, by which the number is multiplied), FP8 and INT8 of
    compressed-tensors and FBGEMM (`weight_scale`), and MXFP8, whose scales are E8M0.
    """
    end = next(end for end in _SCALES if end in parts)
    block = _block(config) or ((FP8_BLOCK, FP8_BLOCK) if end == "_scale_inv" else None)
    values = parts[""].float()
    if "_zero_point" in parts:
        values = values - _spread(parts["_zero_point"].float(), values.shape, block)
    scaled_values: torch.Tensor = values * _spread(_plain_scale(parts[end]), values.shape, block)
    return scaled_values


_SCALES = ("_scale_inv", "_scale", "scale", "qscale_weight")


def _plain_scale(scale: torch.Tensor) -> torch.Tensor:
    return torch.exp2(scale.float() - E8M0_BIAS) if scale.dtype == torch.uint8 else scale.float()


def _block(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the block size in a quantization config: that of FP8, or of compressed-tensors."""
    found = [config.get("weight_block_size"), *(each.get("block_structure") for each in _weights_in(config))]
    return next(((int(size[0]), int(size[1])) for size in found if isinstance(size, list) and len(size) == 2), None)


def _spread(scale: torch.Tensor, shape: torch.Size, block: tuple[int, int] | None) -> torch.Tensor:
    """Repeat the scales of a weight over its last two axes, as far as broadcasting does not."""
    if scale.numel() == 1:
        return scale.reshape(())
    while scale.dim() < len(shape):
        scale = scale.unsqueeze(-1)
    for axis in (-2, -1):
        count, size = scale.shape[axis], shape[axis]
        if count not in (1, size):
            sizes = [*([block[axis]] if block else []), *([size // count] if size % count == 0 else [])]
            each = next((width for width in sizes if -(-size // width) == count), None)
            if each is None:
                raise InputError(
                    f"{count} scales do not fit {size} {'rows' if axis == -2 else 'columns'}"
                    f"{f' in blocks of {block[axis]}' if block else ''}; copy config.json and weights again"
                )
            scale = scale.repeat_interleave(each, axis).narrow(axis, 0, size)
    return scale


def mxfp4(parts: Parts, _: Mapping[str, Any]) -> torch.Tensor:
    """Decode blocks of 32 numbers in E2M1 with a scale in E8M0, as gpt-oss stores its experts.

    Blocks are [experts, out, in / 32, 16], two numbers in a byte, the lower bits first; scales are
    [experts, out, in / 32]. The parameter is [experts, in, out].
    """
    values: torch.Tensor = _e2m1(parts[""]) * _plain_scale(parts["_scales"]).unsqueeze(-1)
    return values.flatten(-2).transpose(-1, -2)


def fp4(parts: Parts, _: Mapping[str, Any]) -> torch.Tensor:
    """Decode rows of E2M1 with a scale for each group of columns: NVFP4 (groups of 16) and MXFP4 (groups of 32).

    The scale of the whole tensor divides in compressed-tensors (`weight_global_scale`) and multiplies in ModelOpt
    (`weight_scale_2`).
    """
    numbers = _e2m1(parts[""])
    scale = _plain_scale(parts["weight_scale"])
    if "weight_global_scale" in parts:
        scale = scale / parts["weight_global_scale"].float()
    if "weight_scale_2" in parts:
        scale = scale * parts["weight_scale_2"].float()
    values: torch.Tensor = numbers.unflatten(-1, (scale.shape[-1], -1)) * scale.unsqueeze(-1)
    return values.flatten(-2)


def _e2m1(packed: torch.Tensor) -> torch.Tensor:
    values = torch.tensor(E2M1, device=packed.device)
    return torch.stack([values[(packed & 15).int()], values[(packed >> 4).int()]], -1).flatten(-2)


def packed_integers(parts: Parts, config: Mapping[str, Any]) -> torch.Tensor:
    """Decode the integers that compressed-tensors packs into words (`pack-quantized`): (q - zero) * scale."""
    rows, columns = (int(size) for size in parts["weight_shape"].tolist())
    words = parts[""].shape[-1]
    bits = _stated_bits(config) or 32 * words // columns
    if words != _words(columns, bits):
        raise InputError(f"{words} words are not {columns} numbers of {bits} bits; take the release in bfloat16")
    middle = 1 << (bits - 1)
    numbers = _unpack(parts[""], bits, columns) - middle
    scale = parts["weight_scale"].float()
    scale = scale.unsqueeze(-1) if scale.dim() == 1 else scale
    group = _group_of_each(columns, scale.shape[-1], parts.get("weight_g_idx"), config, numbers.device)
    values = numbers.float()
    if "weight_zero_point" in parts:
        zeros = _unpack(parts["weight_zero_point"].transpose(0, 1), bits, rows).transpose(0, 1) - middle
        values = values - zeros.float()[:, group]
    scaled_values: torch.Tensor = values * scale[:, group]
    return scaled_values


def _stated_bits(config: Mapping[str, Any]) -> int | None:
    """Return the number of bits in a config of compressed-tensors if it states a single one."""
    found = {int(each["num_bits"]) for each in _weights_in(config) if each.get("num_bits")}
    return found.pop() if len(found) == 1 else None


def _weights_in(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a config of compressed-tensors states on weights, group by group."""
    groups = config.get("config_groups")
    return [group.get("weights") or {} for group in groups.values()] if isinstance(groups, Mapping) else []


def _group_of_each(
    columns: int, groups: int, index: torch.Tensor | None, config: Mapping[str, Any], device: torch.device
) -> torch.Tensor:
    """Return the group of each column, as `g_idx` has it, or else consecutive ones, of which the last may be smaller.

    compressed-tensors has -1 in `g_idx` if it is not used.
    """
    if index is not None and (index.is_meta or not (index < 0).any()):
        return index.long()
    stated = [each.get("group_size") or 0 for each in (config, *_weights_in(config))]
    sizes = [int(size) for size in stated if size > 0] + ([columns // groups] if columns % groups == 0 else [])
    width = next((size for size in sizes if -(-columns // size) == groups), None)
    if width is None:
        raise InputError(f"{groups} groups do not fit {columns} columns; copy config.json and weights again")
    return torch.arange(columns, device=device) // width


def gptq(parts: Parts, config: Mapping[str, Any]) -> torch.Tensor:
    """Decode GPTQ: (q - zero) * scale of the column's group (`g_idx`).

    Words are packed along the inputs, [in * bits / 32, out]. The first version of the format stores every zero minus
    one, and the second (`checkpoint_format`, later `format`: gptq_v2) the zero itself. The config states the bits of
    most layers (`dynamic` has others), so the tensors decide.
    """
    scales, zeros = parts["scales"].float(), parts["qzeros"]
    groups, out = scales.shape
    bits = _gptq_bits(parts, config.get("bits"))
    columns = parts["g_idx"].numel() if "g_idx" in parts else 32 * parts[""].shape[0] // bits
    numbers = _unpack(parts[""].transpose(0, 1), bits, columns)
    zero = _unpack(zeros, bits, out)
    if "gptq_v2" not in (config.get("checkpoint_format"), config.get("format")):
        zero = (zero + 1) & ((1 << bits) - 1)
    group = _group_of_each(columns, groups, parts.get("g_idx"), config, numbers.device)
    values = (numbers - zero.transpose(0, 1)[:, group]).float()
    scaled_values: torch.Tensor = values * scales.transpose(0, 1)[:, group]
    return scaled_values


def _gptq_bits(parts: Parts, stated: int | None) -> int:
    """Return the bits with which zeros and numbers take as many words as they do."""
    out, words, rows = parts["scales"].shape[-1], parts["qzeros"].shape[-1], parts[""].shape[0]
    columns = parts["g_idx"].numel() if "g_idx" in parts else None
    for bits in ([int(stated)] if stated else []) + [2, 3, 4, 8]:
        if _words(out, bits) == words and (columns is None or _words(columns, bits) == rows):
            return bits
    raise InputError(f"{rows} and {words} words are not numbers of 2, 3, 4 or 8 bits; copy the weights again")


def _words(count: int, bits: int) -> int:
    """Return how many words of 32 bits numbers take that are packed one after another."""
    return -(-count * bits // 32)


def awq(parts: Parts, _: Mapping[str, Any]) -> torch.Tensor:
    """Decode AWQ in its `gemm` layout: (q - zero) * scale, 8 interleaved outputs in a word [in, out / 8]."""
    scales = parts["scales"].float()
    numbers, zeros = (_interleaved(each) for each in (parts[""], parts["qzeros"]))
    repeated = numbers.shape[0] // scales.shape[0]
    scales, zeros = (each.repeat_interleave(repeated, 0) for each in (scales, zeros))
    values: torch.Tensor = (numbers - zeros).float() * scales
    return values.transpose(0, 1)


def _interleaved(words: torch.Tensor) -> torch.Tensor:
    eight: torch.Tensor = _unpack(words, 4, 8 * words.shape[-1]).unflatten(-1, (-1, 8))
    return eight[..., list(AWQ_ORDER)].flatten(-2)


def _unpack(words: torch.Tensor, bits: int, count: int) -> torch.Tensor:
    """Unpack unsigned integers from the bits of 32-bit words along the last axis, the lower bits first."""
    if 32 % bits == 0:
        starts = torch.arange(0, 32, bits, device=words.device, dtype=torch.int32)
        return ((words.unsqueeze(-1) >> starts) & ((1 << bits) - 1)).flatten(-2)[..., :count]
    places = torch.arange(32, device=words.device, dtype=torch.int32)
    single: torch.Tensor = ((words.unsqueeze(-1) >> places) & 1).flatten(-2)[..., : count * bits]
    single = single.unflatten(-1, (count, bits))
    return (single << places[:bits]).sum(-1, dtype=torch.int32)


def bitsandbytes_4bit(parts: Parts, _: Mapping[str, Any]) -> torch.Tensor:
    """Decode NF4 or FP4 of bitsandbytes: values of `quant_map` times the largest magnitude of their block.

    Two numbers are in a byte, the higher bits first. With double quantization the magnitudes are in 8 bits.
    """
    stated = next(tensor for end, tensor in parts.items() if end.startswith("weight.quant_state."))
    state = json.loads(bytes(stated.tolist()))
    packed = parts[""].contiguous().view(torch.uint8).flatten()
    codes = torch.stack([packed >> 4, packed & 15], -1).flatten()
    largest = parts["weight.absmax"]
    if "weight.nested_absmax" in parts:
        outer = parts["weight.nested_absmax"].float().repeat_interleave(state["nested_blocksize"])
        inner = parts["weight.nested_quant_map"].float()[largest.int()]
        largest = inner * outer[: inner.numel()] + state["nested_offset"]
    size = prod(state["shape"])
    values = parts["weight.quant_map"].float()[codes.int()][:size]
    return (values * largest.float().repeat_interleave(state["blocksize"])[:size]).view(state["shape"])


def bitsandbytes_8bit(parts: Parts, _: Mapping[str, Any]) -> torch.Tensor:
    """Decode LLM.int8(): 127 stands for the largest magnitude of the row, `SCB`."""
    return parts[""].float() * parts["SCB"].float().unsqueeze(-1) * (1 / 127)


_FLOAT8 = ("F8_E4M3", "F8_E5M2")
_QUANT_MAP = ("weight.absmax", "weight.quant_map")
_NESTED = ("weight.nested_absmax", "weight.nested_quant_map")
_WORDS = ("qzeros", "scales")


def _is_awq(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return shapes[""][-1] * 8 == shapes["scales"][-1] and shapes["qzeros"][-1] * 8 == shapes["scales"][-1]


def _is_gptq(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return shapes[""][-1] == shapes["scales"][-1] and shapes["qzeros"][0] == shapes["scales"][0]


LAYOUTS = (
    Layout(("mxfp4",), "_blocks", ("U8",), "", mxfp4, ("_scales",)),
    Layout(
        ("compressed-tensors",), "weight_packed", ("U8",), "weight", fp4, ("weight_scale",), ("weight_global_scale",)
    ),
    Layout(
        ("compressed-tensors",), "weight_packed", ("I32",), "weight", packed_integers,
        ("weight_scale", "weight_shape"), ("weight_zero_point", "weight_g_idx"), ("weight_shape",),
    ),
    Layout(("modelopt",), "weight", ("U8",), "weight", fp4, ("weight_scale", "weight_scale_2")),
    Layout(("fp8", "mxfp8"), "", _FLOAT8, "", scaled, ("_scale_inv",)),
    Layout(("compressed-tensors", "fbgemm_fp8", "modelopt", "fp8"), "", _FLOAT8, "", scaled, ("_scale",)),
    Layout(("compressed-tensors",), "", ("I8",), "", scaled, ("_scale",), ("_zero_point",)),
    Layout(("fp8",), "weight", _FLOAT8, "weight", scaled, ("scale",)),
    Layout(("fp8",), "weight", _FLOAT8, "weight", scaled, ("qscale_weight",)),
    Layout(("gptq",), "qweight", ("I32",), "weight", gptq, _WORDS, ("g_idx",), matches=_is_gptq),
    Layout(("awq",), "qweight", ("I32",), "weight", awq, _WORDS, matches=_is_awq),
    *(
        Layout(
            ("bitsandbytes_4bit",), "weight", ("U8", "F32", "F16", "BF16"), "weight", bitsandbytes_4bit,
            (*_QUANT_MAP, state), _NESTED, (state,),
        )
        for state in (f"weight.quant_state.bitsandbytes__{kind}" for kind in ("nf4", "fp4"))
    ),
    Layout(("bitsandbytes_8bit",), "weight", ("I8",), "weight", bitsandbytes_8bit, ("SCB",), ("weight_format",)),
)  # fmt: skip
"""All layouts that can be decoded. Where two match, the first one does."""


def decode(layout: Layout, parts: Parts, config: Mapping[str, Any], dtype: torch.dtype) -> torch.Tensor:
    """Decode a weight, rounded once to `dtype`; the experts of a layer one by one, which saves memory.

    Raises:
        InputError: scales and numbers do not fit.
    """
    numbers = parts[""]
    experts = numbers.shape[0]
    if numbers.is_meta or numbers.dim() < 3:
        return layout.decode(parts, config).to(dtype).contiguous()
    whole: torch.Tensor | None = None
    for index in range(experts):
        mine = {end: each[index] if each.dim() and len(each) == experts else each for end, each in parts.items()}
        one = layout.decode(mine, config)
        if whole is None:
            whole = torch.empty((experts, *one.shape), dtype=dtype)
        whole[index] = one
    assert whole is not None
    return whole
