"""Sampling that a model's makers recommend, as metadata of a GGUF file."""

from pathlib import Path
from typing import Any

from jmedllm.files import read_json

_NAMES: dict[str, tuple[str, type[float] | type[int]]] = {
    "temperature": ("temp", float),
    "top_k": ("top_k", int),
    "top_p": ("top_p", float),
    "min_p": ("min_p", float),
}
"""Names in generation_config.json; names and types in the file."""

_DEFAULTS = {"temperature": 1.0, "top_k": 50, "top_p": 1.0}
"""What transformers uses if generation_config.json says only `do_sample`."""


def sampling_metadata(folder: Path) -> dict[str, Any]:
    """Return the metadata for the sampling in a model's generation_config.json; none if it decodes greedily.

    A penalty of repetitions is left out, because llama.cpp would apply it to greedy decoding as well.

    Raises:
        InputError: the file cannot be read.
    """
    file = folder / "generation_config.json"
    config = read_json(file) if file.is_file() else {}
    named = {name: value for name, value in config.items() if name in _NAMES and value is not None}
    wanted = _DEFAULTS | named if config.get("do_sample") else {}
    return {f"general.sampling.{_NAMES[name][0]}": _NAMES[name][1](wanted[name]) for name in wanted}
