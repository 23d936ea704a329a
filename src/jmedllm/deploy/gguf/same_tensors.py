"""Tensors of a GGUF file against those of the model: small changes show in no predictions, but in the values."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jmedllm.deploy.gguf.architectures import architecture_of
from jmedllm.deploy.gguf.quantize import quantizing
from jmedllm.deploy.gguf.source import Source
from jmedllm.deploy.gguf.tensors import exported_tensors, shapes
from jmedllm.deploy.gguf.types import FileType, Quantize, encoded, tensor_format
from jmedllm.errors import InputError

Array = np.ndarray[Any, Any]

_WHOLE, _ROW = 1.6, 8.0
"""Largest errors of a tensor and of one of its rows, as multiples of those without an importance matrix. With one, the
errors of all columns together are larger: up to 1.31 and 3.4 times in SmolLM2-135M's file of the type q4_k_m."""


def require_same_tensors(file: Path, source: Source, kind: FileType) -> int:
    """Check that each tensor of a file has the model's values in the format of the file's type.

    F32 to Q8_0 must have the bytes of an export. Formats below depend on an importance matrix; their error must be
    that of a quantization.

    Args:
        file: the GGUF file.
        source: the model that it should be.
        kind: its type.

    Returns:
        The number of tensors.

    Raises:
        InputError: a tensor is missing, added, or has other values.
    """
    from gguf import GGUFReader

    config, architecture = source.config, architecture_of(source.config)
    found = {each.name: each for each in GGUFReader(str(file)).tensors}
    listed = dict(shapes(source.folder, config, architecture))
    if unlike := sorted(found.keys() ^ listed.keys()):
        there = "added" if unlike[0] in found else "missing"
        raise InputError(f"{file}: tensor {unlike[0]} is {there}; export the model again")
    with quantizing() if kind.is_k_quant else nullcontext() as quantize:
        for name, tensor in exported_tensors(source.folder, config, architecture):
            layers, tied = config.num_hidden_layers, config.tie_word_embeddings
            stored = tensor_format(name, listed[name], kind, layers=layers, tied=tied)
            shape = tuple(reversed(found[name].shape.tolist()))
            if (found[name].tensor_type.name, shape) != (stored, listed[name]):
                raise InputError(
                    f"{file}: tensor {name} is {found[name].tensor_type.name} {list(shape)}, but {stored} "
                    f"{list(listed[name])} in an export of {source.folder}; export the model again"
                )
            if difference := _difference(np.asarray(found[name].data), tensor, stored, quantize):
                raise InputError(
                    f"{file}: tensor {name} is not that of {source.folder}: {difference}; export the model again"
                )
    return len(found)


def _difference(data: Array, tensor: torch.Tensor, stored: str, quantize: Quantize | None) -> str:
    """Return how the values in a file differ from a tensor; "" if they do not."""
    content, expected = _bytes(data), encoded(tensor, stored, quantize)
    if np.array_equal(content, _bytes(expected)):
        return ""
    if quantize is None or stored in ("F32", "F16", "BF16", "Q8_0"):
        return f"{np.count_nonzero(content != _bytes(expected)):,} of {content.size:,} bytes differ"
    values = tensor.float().numpy().reshape(-1, tensor.shape[-1])
    ours, theirs = (_row_errors(each, values, stored) for each in (expected, data))
    whole, usual = (float(_root_mean_square(each)) for each in (theirs, ours))
    if whole > _WHOLE * usual:
        return f"its error is {whole:.2g}, that of {stored} {usual:.2g}"
    limits = _ROW * np.maximum(ours, 1e-3 * ours.max())  # a row of zeros has no error of its own
    rows = np.flatnonzero(~(theirs <= limits))  # also if it is NaN
    return f"in {rows.size:,} of {len(values):,} rows its error is not that of {stored}" if rows.size else ""


def _bytes(data: Array) -> Array:
    return np.ascontiguousarray(data).view(np.uint8).reshape(-1)


def _row_errors(data: Array, values: Array, stored: str) -> Array:
    """Return the root mean square of each row's difference from `values` [rows, columns]."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    read = dequantize(data, GGMLQuantizationType[stored]).reshape(values.shape)
    return _root_mean_square(read - values)


def _root_mean_square(values: Array) -> Array:
    """Return the root mean square over the last axis."""
    found: Array = np.sqrt(np.square(values).mean(-1))
    return found
