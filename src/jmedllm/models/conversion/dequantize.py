"""Dequantize a model: write a directory with plain weights, tensor by tensor."""

import json
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from shutil import copyfile
from typing import Any, BinaryIO

import torch

from jmedllm.errors import InputError
from jmedllm.files import atomic_folder, is_vacant, read_json, to_json, write_atomic
from jmedllm.models.folder import INDEX, ORIGIN, complete_origin, fingerprint, model_files, require_model
from jmedllm.models.loading import load_structure, names_in_float32
from jmedllm.models.weights.dequantized import STORED_NAMES, DequantizedTensor, dequantized
from jmedllm.models.weights.quantization import require_decodable, without_quantization
from jmedllm.progress import notice, progress

_STALE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json", "quantization_config.json")
"""Files beside config.json that describe quantized weights."""


def dequantize(folder: Path, output: Path, dtype: torch.dtype, *, replace: bool = False) -> str:
    """Write a copy of a model with dequantized weights, each rounded once to `dtype`.

    Files and tensors keep their names, and a vision-language model is converted completely. Memory is needed for one
    tensor at a time. An `output` that already contains this copy is left unchanged.

    Args:
        folder: a model directory whose weights are quantized by one of `METHODS`.
        output: directory to write; nothing is left there if the conversion is refused.
        dtype: dtype of the new weights; parameters that the class keeps in float32 have that dtype.
        replace: whether to replace a model that jmedllm wrote to `output` from another source.

    Returns:
        The new model's fingerprint.

    Raises:
        InputError: the model cannot be loaded, its weights are not quantized or by another method, or `output` is not
            empty.
    """
    require_model(folder)
    method = require_decodable(folder)
    origin = {
        "source": str(folder),
        "source_fingerprint": fingerprint(folder),
        "dequantized": method.name,
        "dtype": str(dtype).removeprefix("torch."),
    }
    if before := complete_origin(output, {key: value for key, value in origin.items() if key != "source"}):
        return str(before["fingerprint"])
    if not is_vacant(output) and not (replace and (output / ORIGIN).is_file()):
        raise InputError(f"convert: {output} is not empty; choose another --output")
    network = load_structure(folder)
    plain = dequantized(folder, dtype, names_in_float32(network))
    biases = [name for name in plain.unused if name.endswith(".bias")]
    scales = [name for name in plain.unused if name not in biases]
    if scales:
        kind = "scales of activations or of the key-value cache"
        notice(
            f"model {folder}: {len(scales)} {kind} are left out, "
            f"which weights in {origin['dtype']} do not need: {_first(scales)}"
        )
    if biases:
        notice(f"model {folder}: {len(biases)} biases of zeros, from quantization, are left out: {_first(biases)}")
    with atomic_folder(output, ORIGIN) as temporary:
        for file in model_files(folder):
            if file.name not in (INDEX, "config.json", *_STALE):
                copyfile(file, temporary / file.name)
        config = _in_dtype(without_quantization(read_json(folder / "config.json")), origin["dtype"])
        write_atomic(temporary / "config.json", to_json(config, indent=2) + "\n")
        with progress("dequantize", len(plain.tensors)) as advance:
            for file, tensors in plain.tensors.items():
                if tensors:  # a file may have only scales
                    _write(temporary / file.name, tensors)
                advance(1, file.name)
        if (folder / INDEX).is_file():
            _write_index(temporary / INDEX, plain.tensors)
        made = fingerprint(temporary)
        write_atomic(temporary / ORIGIN, to_json(origin | {"fingerprint": made}, indent=2) + "\n")
    return made


def _first(names: list[str]) -> str:
    return f"{names[0]}{', ...' if len(names) > 1 else ''}"


def dequantized_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Return the size of a model's weights after dequantization.

    Raises:
        InputError: see `dequantize`.
    """
    return sum(map(_bytes, dequantized(folder, dtype).by_name().values()))


def _in_dtype(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Return a config.json that states a dtype wherever it states one, and at the top."""

    def changed(part: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: dtype if key in ("dtype", "torch_dtype") else changed(value) if isinstance(value, Mapping) else value
            for key, value in part.items()
        }

    values = changed(config)
    return values if "torch_dtype" in values else values | {"dtype": dtype}


def _write(path: Path, tensors: Iterable[DequantizedTensor]) -> None:
    """Write a safetensors file of which only one tensor is in memory at a time."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    ordered = list(tensors)
    for each in ordered:
        end = position + _bytes(each)
        entries[each.name] = {
            "dtype": STORED_NAMES[each.dtype],
            "shape": list(each.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for each in ordered:
            _append(file, each)


def _bytes(tensor: DequantizedTensor) -> int:
    return prod(tensor.shape) * tensor.dtype.itemsize


def _append(file: BinaryIO, tensor: DequantizedTensor) -> None:
    value = tensor.read()
    if tuple(value.shape) != tensor.shape:
        raise InputError(f"{tensor.name}: decoded as {list(value.shape)}, planned as {list(tensor.shape)}")
    file.write(value.contiguous().flatten().view(torch.uint8).numpy().data)


def _write_index(path: Path, tensors: Mapping[Path, Iterable[DequantizedTensor]]) -> None:
    names = {each.name: file.name for file, found in tensors.items() for each in found}
    size = sum(_bytes(each) for found in tensors.values() for each in found)
    write_atomic(path, to_json({"metadata": {"total_size": size}, "weight_map": names}, indent=2) + "\n")
