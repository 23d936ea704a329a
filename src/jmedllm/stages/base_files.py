"""The base model of a recipe for the checks of the stages: its files, or only its published config."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from jmedllm.models.tokenizer.encoding import Tokenizer


class BaseFiles:
    """A base model without weights. Each part is read once, when a check first needs it.

    Attributes:
        folder: the model directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
