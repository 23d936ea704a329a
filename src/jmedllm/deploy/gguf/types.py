"""Number formats of GGUF tensors: which one a tensor gets, and its bytes."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

Quantize = Callable[["np.ndarray[Any, Any]", str, "np.ndarray[Any, Any] | None"], "np.ndarray[Any, Any]"]
"""Quantizes a [rows, columns] float32 matrix into a format of ggml, with an importance of each column or None."""


@dataclass(frozen=True, slots=True)
class FileType:
    """A `--type`.

    Attributes:
        file_type: llama.cpp's number (`general.file_type`).
        matrix: ggml's name of the format of most matrices; vectors are always float32.
        sensitive: format of the matrices whose errors matter most: the output, and in `_more_bits` layers the values
            of the attention and the way down of the feed-forward network. None for `matrix`.
    """

    file_type: int
    matrix: str
    sensitive: str | None = None

    @property
    def is_k_quant(self) -> bool:
        """Whether ggml quantizes it, best with an importance matrix."""
        return self.matrix.endswith("_K")


FILE_TYPES: Mapping[str, FileType] = {
    "f32": FileType(0, "F32"),
    "f16": FileType(1, "F16"),
    "bf16": FileType(32, "BF16"),
    "q8_0": FileType(7, "Q8_0"),
    "q6_k": FileType(18, "Q6_K"),
    "q5_k_m": FileType(17, "Q5_K", sensitive="Q6_K"),
    "q4_k_m": FileType(15, "Q4_K", sensitive="Q6_K"),
}
"""Types of files by their option. Formats of tensors are those that llama.cpp's own quantization chooses."""

_FALLBACKS: Mapping[str, str] = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""Formats for matrices whose columns do not fill blocks of 256, which need blocks of 32."""

_LAST = "F16"
"""Format for matrices whose columns do not fill blocks of 32 either."""

_SENSITIVE = re.compile(r"blk\.(\d+)\.(?:attn_v|ffn_down|ffn_down_exps)\.weight")

_PRECISE = re.compile(r"\.(?:ffn_gate_inp|ffn_gate_inp_shexp|ssm_conv1d)\.weight$|(?<!\.weight)$")
"""Small tensors that llama.cpp reads in float32 only: routers, convolutions, biases."""


def tensor_format(name: str, shape: tuple[int, ...], file_type: FileType, *, layers: int, tied: bool) -> str:
    """Return ggml's name of the format in which a tensor is stored.

    Args:
        name: llama.cpp's name of the tensor.
        shape: its shape.
        file_type: type of the file.
        layers: number of layers of the network.
        tied: whether the output uses the embedding.
    """
    if len(shape) == 1 or _PRECISE.search(name):
        return "F32"
    return _that_fits(_wanted(name, file_type, layers, "token_embd.weight" if tied else "output.weight"), shape[-1])


def _wanted(name: str, file_type: FileType, layers: int, output: str) -> str:
    if file_type.sensitive is None:
        return file_type.matrix
    match = _SENSITIVE.fullmatch(name)
    is_sensitive = name == output or (match is not None and _more_bits(int(match[1]), layers))
    return file_type.sensitive if is_sensitive else file_type.matrix


def _more_bits(layer: int, layers: int) -> bool:
    """Return whether a layer is in the first or last eighth, or every third one between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _that_fits(name: str, columns: int) -> str:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    for each in (name, _FALLBACKS.get(name, _LAST)):
        if columns % GGML_QUANT_SIZES[GGMLQuantizationType[each]][0] == 0:
            return each
    return _LAST


def encoded(tensor: torch.Tensor, name: str, quantize: Quantize | None, importance: Any = None) -> Any:
    """Return the bytes of a tensor in ggml's format `name`, as a uint8 array.

    Args:
        tensor: the values.
        name: the format.
        quantize: ggml's quantization; needed for K-quants and their fallbacks.
        importance: [columns] importance of each column, or None; of stacked experts [experts, columns].
    """
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize as quantize_in_numpy

    if name == {torch.bfloat16: "BF16", torch.float16: "F16"}.get(tensor.dtype):  # exact, without float32
        return tensor.contiguous().view(torch.uint8).numpy()
    values = tensor.float().contiguous().numpy()
    if quantize is not None and name not in ("F32", "F16", "BF16"):
        if values.ndim == 2:
            return quantize(values, name, importance)
        weights = [None] * len(values) if importance is None else importance
        return np.stack([quantize(expert, name, each) for expert, each in zip(values, weights, strict=True)])
    return np.ascontiguousarray(quantize_in_numpy(values, GGMLQuantizationType[name])).view(np.uint8)


def encoded_size(shape: tuple[int, ...], name: str) -> int:
    """Return the number of bytes of a tensor in ggml's format `name`."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    return int(np.prod(shape)) // block * size
