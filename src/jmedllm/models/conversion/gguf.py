"""Metadata and tensor table of a GGUF file; no tensor is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError, not_installed

_MAGIC = b"GGUF"

_DECODER_KINDS = ("model", None)
"""`general.type` of files with a model; others are an adapter, a vision tower or an importance matrix."""


@dataclass(frozen=True, slots=True)
class Gguf:
    """A GGUF file.

    Attributes:
        path: the file.
        metadata: every key and its value; arrays are lists.
        tensors: for each tensor the number of its elements.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, int]

    @property
    def architecture(self) -> str:
        """The name that llama.cpp gives the architecture."""
        return str(self.metadata["general.architecture"])

    def of_architecture(self, key: str) -> Any:
        """Value of a key of the architecture; None if there is none."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def of_tokenizer(self, key: str, default: Any = None) -> Any:
        """Value of a key of `tokenizer.ggml`."""
        return self.metadata.get(f"tokenizer.ggml.{key}", default)


def require_gguf() -> None:
    """Check that GGUF files can be read.

    Raises:
        InputError: the package gguf is missing.
    """
    if find_spec("gguf") is None:
        raise not_installed("convert", "gguf")


def read_gguf(path: Path) -> Gguf:
    """Read metadata and tensor table of a file with one complete language model.

    Raises:
        InputError: the file is missing, not a GGUF file, truncated or damaged, one of several parts, or not a
            language model.
    """
    _require_magic(path)
    require_gguf()
    from gguf import GGUFReader

    try:
        reader = GGUFReader(str(path))
        metadata = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: int(tensor.n_elements) for tensor in reader.tensors}
    except (ValueError, IndexError, KeyError, OverflowError, MemoryError) as error:
        # The reader trusts every length in the file, so a truncated file fails at whatever comes after the cut.
        raise InputError(f"{path}: a truncated or damaged GGUF file ({error}); copy it again") from error
    for key in ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.tokens"):
        if key not in metadata:
            raise InputError(f"{path}: no {key} in its metadata; give the GGUF file of a language model")
    if (kind := metadata.get("general.type")) not in _DECODER_KINDS:
        raise InputError(f"{path}: is a GGUF {kind}, not a model; give the GGUF file of a language model")
    if (parts := int(metadata.get("split.count", 1))) > 1:
        raise InputError(f"{path}: one of {parts} parts; join them with: llama-gguf-split --merge FIRST_PART OUTPUT")
    return Gguf(path, metadata, tensors)


def _require_magic(path: Path) -> None:
    try:
        with path.open("rb") as handle:
            magic = handle.read(len(_MAGIC))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; give a GGUF file") from error
    if magic != _MAGIC:
        raise InputError(f"{path}: not a GGUF file; a file in safetensors format needs no conversion")
