"""Models with quantized weights: how to recognize them, and which can be dequantized."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.files import read_json

DEQUANTIZED = {"fp8": "FineGrainedFP8Config", "mxfp4": "Mxfp4Config"}
"""Methods that transformers can dequantize exactly on loading, and the config class for that."""


def quantization_in(config: Mapping[str, Any]) -> str | None:
    """The quantization method of a model's weights, according to its config.json; None if they are not quantized."""
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
        InputError: they are quantized; an adapter cannot be merged into such weights.
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
    """`require_plain_weights` of a model directory.

    Raises:
        InputError: its weights are quantized, or its config.json is broken.
    """
    values = read_json(folder / "config.json")
    if isinstance(values, dict):
        require_plain_weights(values, str(folder))
