"""Recognize models with quantized weights, and those that can be dequantized."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.files import read_json

DEQUANTIZED = {"fp8": "FineGrainedFP8Config", "mxfp4": "Mxfp4Config"}
"""Methods that transformers can dequantize exactly on loading, and their config classes."""


def quantization_in(config: Mapping[str, Any]) -> str | None:
    """Return the quantization method in a model's config.json; None if its weights are not quantized."""
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        for key in ("quantization_config", "compression_config"):
            found = part.get(key)
            if isinstance(found, Mapping) and found:
                is_old = "load_in_4bit" in found or "load_in_8bit" in found
                return str(found.get("quant_method") or ("bitsandbytes" if is_old else key))
    return None


def require_plain_weights(config: Mapping[str, Any], name: str) -> None:
    """Check that the weights of a base model for training are plain numbers.

    Args:
        config: content of its config.json.
        name: name of the base, for the message.

    Raises:
        InputError: the weights are quantized, so that no adapter can be merged into them.
    """
    method = quantization_in(config)
    if method is None:
        return
    way = (
        f"dequantize it once with: jmedllm convert {name} --output DIRECTORY --dtype bfloat16"
        if method in DEQUANTIZED
        else "take its release in bfloat16; to train in 4 bits, set mpeft.adapter.quantization: nf4"
    )
    raise InputError(
        f"base {name}: its weights are quantized ({method}), so no adapter can be merged into them; {way}"
    )


def require_plain_base(folder: Path) -> None:
    """Check that the weights of a model directory are plain numbers.

    Raises:
        InputError: its weights are quantized, or its config.json is broken.
    """
    values = read_json(folder / "config.json")
    if isinstance(values, dict):
        require_plain_weights(values, str(folder))
