"""The base model of a recipe as the checks of the stages read it."""

from functools import cached_property
from pathlib import Path
from typing import Any

from jmedllm.models.tokenizer.encoding import Tokenizer


class BaseFiles:
    """A base model without its weights. Each part is read when a check first needs it, and only once.

    Attributes:
        folder: the model directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def config(self) -> Any:
        """Its configuration, as transformers reads it."""
        from jmedllm.models.loading import read_config

        return read_config(self.folder)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer, which checks must not change."""
        from jmedllm.models.tokenizer.load import load_tokenizer

        return load_tokenizer(self.folder)

    @cached_property
    def structure(self) -> Any:
        """Its network without weights, which checks must not change."""
        from jmedllm.models.loading import load_structure

        return load_structure(self.folder)

    def require_loadable(self) -> None:
        """Check that the tokenizer and the network can be loaded.

        Raises:
            InputError: files are missing or broken, or the tensors are not those of the network's class.
        """
        _ = self.tokenizer, self.structure
