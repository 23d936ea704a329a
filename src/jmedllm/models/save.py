"""Write models and adapters as directories, completely or not at all."""

from pathlib import Path
from shutil import copyfile
from typing import Any

from jmedllm.files import atomic_folder, read_json, to_json, write_atomic
from jmedllm.models.folder import ORIGIN, PROCESSOR_FILES, PROCESSOR_TEMPLATE, fingerprint
from jmedllm.models.libraries import be_quiet
from jmedllm.models.tokenizer.encoding import Tokenizer


def save_model(
    network: Any, tokenizer: Tokenizer, folder: Path, origin: dict[str, str], base: Path | None = None
) -> None:
    """Write a plain model directory: safetensors, config, tokenizer, and its origin.

    The model's own fingerprint is written as well, so that later damage is detected.

    Args:
        network: a transformers model.
        tokenizer: tokenizer of the model.
        folder: directory to write.
        origin: origin of the model.
        base: base model, whose processor is copied if both have the same model type.
    """
    be_quiet()
    with atomic_folder(folder, ORIGIN) as temporary:
        network.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        _drop_runtime_keys(temporary / "tokenizer_config.json")
        if base is not None and _kind(base) == _kind(temporary):
            for name in (*PROCESSOR_FILES, PROCESSOR_TEMPLATE):
                if (base / name).is_file():
                    copyfile(base / name, temporary / name)
        whole = origin | {"fingerprint": fingerprint(temporary)}
        write_atomic(temporary / ORIGIN, to_json(whole, indent=2) + "\n")


def _kind(folder: Path) -> object:
    return read_json(folder / "config.json").get("model_type")


def save_adapter(network: Any, folder: Path, origin: dict[str, str]) -> None:
    """Write a PEFT adapter; `origin` names its base, so that it is never applied to another one.

    The card template of peft is not kept, because nothing in it is filled in.
    """
    with atomic_folder(folder, ORIGIN) as temporary:
        network.save_pretrained(temporary)
        (temporary / "README.md").unlink(missing_ok=True)
        _sort_lists(temporary / "adapter_config.json")
        write_atomic(temporary / ORIGIN, to_json(origin, indent=2) + "\n")


def _drop_runtime_keys(path: Path) -> None:
    """Remove keys on how this process loaded the tokenizer, which transformers stores as settings."""
    if path.exists():
        config = read_json(path)
        kept = {key: value for key, value in config.items() if key not in ("is_local", "local_files_only")}
        write_atomic(path, to_json(kept, indent=2) + "\n")


def _sort_lists(path: Path) -> None:
    """Sort lists in a configuration: peft writes sets in an order that changes from process to process."""
    config = read_json(path)
    ordered = {key: sorted(value) if isinstance(value, list) else value for key, value in config.items()}
    write_atomic(path, to_json(ordered, indent=2) + "\n")
