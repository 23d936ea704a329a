"""The tensors that a quantized model has once it is dequantized, each decoded when it is read."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.models.weights.decode import Layout, decode
from jmedllm.models.weights.quantization import StoredWeight, headers, require_decodable, stored_weights

_UNUSED = re.compile(
    r"(^|[._])((in|out)put_(global_|activation_)?(scale|zero_point)|activation_scale|(q|k|v|kv|prob)_scale)$"
)
"""Names of scales of activations and of the key-value cache, which a model in bfloat16 does not have."""

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Dtypes by their names in safetensors files."""

STORED_NAMES = {dtype: name for name, dtype in DTYPES.items()}
"""Names in safetensors files by dtype."""


@dataclass(frozen=True, slots=True)
class DequantizedTensor:
    """A tensor of the dequantized model, read from the files of the quantized one.

    It can be used like a slice of a safetensors file: `tensor[...]` reads and decodes it.

    Attributes:
        name: its name.
        files: file and name of each stored tensor, by the ends of `Layout`; a plain one is under "".
        layout: how it is stored; None for a plain tensor.
        config: the model's `quantization_config`.
        dtype: dtype that it gets.
        shape: its shape.
    """

    name: str
    files: Mapping[str, tuple[Path, str]]
    layout: Layout | None
    config: Mapping[str, Any]
    dtype: torch.dtype
    shape: tuple[int, ...]

    def __getitem__(self, _: EllipsisType) -> torch.Tensor:
        return self.read()

    def read(self) -> torch.Tensor:
        """Read and decode the tensor.

        Raises:
            InputError: numbers and scales do not fit.
        """
        parts = {end: _read(*place) for end, place in self.files.items()}
        return _decoded(self.name, parts, self.layout, self.config, self.dtype)

    def empty(self) -> torch.Tensor:
        """Return a tensor of this shape on the device "meta"."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


@dataclass(frozen=True, slots=True)
class Dequantized:
    """The tensors of a dequantized model.

    Attributes:
        tensors: tensors of the dequantized model by the file that has their numbers.
        unused: names of the tensors that it leaves out: scales of activations and of the key-value cache, and biases
            that only the quantizer added.
    """

    tensors: Mapping[Path, list[DequantizedTensor]]
    unused: Sequence[str]

    def by_name(self) -> dict[str, DequantizedTensor]:
        """Return all tensors by name."""
        return {each.name: each for tensors in self.tensors.values() for each in tensors}


def dequantized(folder: Path, dtype: torch.dtype, in_float32: re.Pattern[str] | None = None) -> Dequantized:
    """Return the tensors of a model directory after dequantization; reads only headers and a few sizes.

    Args:
        folder: the model directory.
        dtype: dtype of the weights; integers keep theirs.
        in_float32: pattern of the names that get float32 instead, because the model's class keeps them so.

    Raises:
        InputError: the weights are plain numbers, or stored in a way that cannot be decoded.
    """
    config = require_decodable(folder).config
    stored = headers(folder)
    weights = {each.parts[""]: each for each in stored_weights(stored)}
    parts = {name for each in weights.values() for name in each.parts.values()}
    found: dict[Path, list[DequantizedTensor]] = {entry["file"]: [] for entry in stored.values()}
    unused = sorted(name for name in stored if name not in parts and _UNUSED.search(name))
    unused += _zero_biases(weights.values(), stored)
    for name, entry in stored.items():
        if name in unused or (name in parts and name not in weights):
            continue
        weight = weights.get(name)
        layout = weight.layout if weight else None
        plain = weight.name if weight else name
        files = {end: (stored[each]["file"], each) for end, each in (weight.parts if weight else {"": name}).items()}
        own = DTYPES[entry["dtype"]]
        if layout is None and entry["dtype"].startswith("F8_"):
            raise InputError(
                f"model {folder}: {plain} is stored as {entry['dtype']}, but has no scale; copy the files again"
            )
        kept = torch.float32 if in_float32 and in_float32.search(plain) else dtype
        kept = kept if layout or own.is_floating_point else own
        shape = _shape(plain, stored, files, layout, config) if layout else entry["shape"]
        found[entry["file"]].append(DequantizedTensor(plain, files, layout, config, kept, shape))
    return Dequantized(found, unused)


def _zero_biases(weights: Iterable[StoredWeight], stored: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the biases that GPTQ's programs add to layers without one: zeros in every layer of a kind."""
    kinds: dict[str, list[str]] = {}
    for each in weights:
        bias = f"{each.name.removesuffix('weight')}bias"
        if "gptq" in each.layout.methods and bias in stored:
            kinds.setdefault(re.sub(r"\d+", "*", bias), []).append(bias)
    zero = [names for names in kinds.values() if not any(_read(stored[name]["file"], name).any() for name in names)]
    return [name for names in zero for name in names]


def _shape(
    name: str,
    stored: Mapping[str, Mapping[str, Any]],
    files: Mapping[str, tuple[Path, str]],
    layout: Layout,
    config: Mapping[str, Any],
) -> tuple[int, ...]:
    """Decode a weight without its values."""
    parts = {
        end: _read(*place) if end in layout.read else _empty(stored[place[1]]) for end, place in files.items()
    }  # fmt: skip
    return tuple(_decoded(name, parts, layout, config, torch.float32).shape)


def _decoded(
    name: str,
    parts: Mapping[str, torch.Tensor],
    layout: Layout | None,
    config: Mapping[str, Any],
    dtype: torch.dtype,
) -> torch.Tensor:
    if layout is None:
        return parts[""].to(dtype)
    try:
        return decode(layout, parts, config, dtype)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{name}: cannot be decoded as {layout.methods[0]}: {reason}; copy config.json and weights again"
        ) from error


def _read(file: Path, name: str) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        tensor: torch.Tensor = opened.get_tensor(name)
    return tensor


def _empty(entry: Mapping[str, Any]) -> torch.Tensor:
    return torch.empty(entry["shape"], dtype=DTYPES[entry["dtype"]], device="meta")
