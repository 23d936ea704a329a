"""Number formats of GGUF tensors: which one a tensor gets, and its bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch




@dataclass(frozen=True, slots=True)
class FileType:
    """A `--type`.

    Attributes:
        file_type: llama.cpp's number (`general.file_type`).
        matrix: ggml's name of the format of matrices; vectors are always float32.
        columns: number that the columns of a matrix must be a multiple of.
    """

    file_type: int
    matrix: str
    columns: int = 1


FILE_TYPES: Mapping[str, FileType] = {
    "f32": FileType(0, "F32"),
    "f16": FileType(1, "F16"),
    "bf16": FileType(32, "BF16"),
    "q8_0": FileType(7, "Q8_0", columns=32),
}
"""Types of files by their option."""

FALLBACK = "F16"
"""Format of matrices whose columns do not fill the blocks of the file's type."""


def tensor_format(name: str, shape: tuple[int, ...], file_type: FileType) -> str:
    """Return ggml's name of the format in which a tensor is stored."""
    if len(shape) == 1 or name == "rope_freqs.weight":
        return "F32"
    return file_type.matrix if shape[-1] % file_type.columns == 0 else FALLBACK


def encoded(tensor: torch.Tensor, name: str) -> "np.ndarray[Any, Any]":
    """Return the [..., bytes] uint8 array of a tensor in ggml's format `name`."""
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    if name == "BF16" and tensor.dtype == torch.bfloat16:  # exact, and four times faster than through float32
        return tensor.contiguous().view(torch.uint8).numpy()
    if name == "F16" and tensor.dtype == torch.float16:
        return tensor.contiguous().view(torch.uint8).numpy()
    values = tensor.float().contiguous().numpy()
    return np.ascontiguousarray(quantize(values, GGMLQuantizationType[name])).view(np.uint8)


def encoded_size(shape: tuple[int, ...], name: str) -> int:
    """Return the number of bytes of a tensor in ggml's format `name`."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    return int(np.prod(shape)) // block * size
