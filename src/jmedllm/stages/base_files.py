"""The base model of a recipe for the checks of the stages: its files, or only its published config."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from jmedllm.models.folder import weight_files
from jmedllm.models.tokenizer.encoding import Tokenizer

if TYPE_CHECKING:
    from jmedllm.models.weights.quantization import Quantization


class BaseFiles:
    """A base model without weights. Each part is read once, when a check first needs it.

    Attributes:
        folder: the model directory.
        dequantize: whether the run dequantizes its weights before anything else.
    """

    def __init__(self, folder: Path, *, dequantize: bool = False) -> None:
        self.folder = folder
        self.dequantize = dequantize

    @cached_property
    def config(self) -> Any:
        """The transformers configuration."""
        from jmedllm.models.loading import read_config

        return read_config(self.folder)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, which checks must not change."""
        from jmedllm.models.tokenizer.load import load_tokenizer

        return load_tokenizer(self.folder)

    @cached_property
    def structure(self) -> Any:
        """The network without weights, which checks must not change."""
        from jmedllm.models.loading import load_structure

        return load_structure(self.folder)

    @cached_property
    def quantization(self) -> "Quantization | None":
        """How the weights are quantized that a stage loads; None if they are plain numbers."""
        from jmedllm.models.weights.quantization import quantization_of

        return None if self.dequantize else quantization_of(self.folder)

    @cached_property
    def weight_bytes(self) -> int:
        """Bytes of the weights as plain numbers: in their own dtypes, or in bfloat16 if they are stored quantized."""
        from jmedllm.models.conversion.dequantize import dequantized_bytes
        from jmedllm.models.weights.quantization import quantization_of

        if quantization_of(self.folder):
            return dequantized_bytes(self.folder, torch.bfloat16)
        return sum(file.stat().st_size for file in weight_files(self.folder))

    def require_loadable(self) -> None:
        """Check that the tokenizer and the network can be loaded.

        Raises:
            InputError: files are missing or invalid, or the tensors do not match the network's class.
        """
        _ = self.tokenizer, self.structure


class PublishedBase:
    """A base model that is not on this machine and whose config comes with jmedllm.

    Attributes:
        name: id of the model.
        values: content of its config.json.
    """

    def __init__(self, name: str, values: dict[str, Any]) -> None:
        self.name = name
        self.values = values

    @cached_property
    def config(self) -> Any:
        """The transformers configuration."""
        return self.structure.config

    @cached_property
    def structure(self) -> Any:
        """The network without weights, which checks must not change."""
        return self.build()

    def build(self) -> Any:
        """Build the network without weights, for a check that changes it."""
        from jmedllm.planning.shape import structure

        return structure(self.values, self.name, torch.bfloat16)
