"""Models and adapters as directories, written whole or not at all."""

from pathlib import Path
from typing import Any

from jmedllm.files import atomic_folder, to_json, write_atomic
from jmedllm.models.encoding import Tokenizer
from jmedllm.models.folder import ORIGIN
from jmedllm.models.libraries import be_quiet


def save_model(network: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a plain model directory: safetensors, config, tokenizer."""
    be_quiet()
    with atomic_folder(folder) as temporary:
        network.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)


def save_adapter(network: Any, folder: Path, origin: dict[str, str]) -> None:
    """Write a PEFT adapter; `origin` names its base, so that it never meets another one."""
    with atomic_folder(folder) as temporary:
        network.save_pretrained(temporary)
        write_atomic(temporary / ORIGIN, to_json(origin, indent=2) + "\n")
