"""Models whose weights arrive quantized: which those are, and what is to be done with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.files import read_json

DEQUANTIZED = {"fp8": "FineGrainedFP8Config", "mxfp4": "Mxfp4Config"}
"""Methods that transformers undoes exactly on loading, and its class of settings for that."""


def quantization_in(config: Mapping[str, Any]) -> str | None:
    """The method by which the weights of a model are quantized, as its config.json says; None if they are not."""
    for part in (config, *(value for value in config.values() if isinstance(value, Mapping))):
        for key in ("quantization_config", "compression_config"):
            found = part.get(key)
            if isinstance(found, Mapping) and found:
                is_old = "load_in_4bit" in found or "load_in_8bit" in found
                return str(found.get("quant_method") or ("bitsandbytes" if is_old else key))
    return None


def require_plain_weights(config: Mapping[str, Any], name: str) -> None:
    """Check that a base to be trained stores its weights as plain numbers.

    Args:
        config: what its config.json holds.
        name: of the base, for the message.

    Raises:
        InputError: they are quantized; an adapter cannot be merged into such weights.
    """
    method = quantization_in(config)
    if method is None:
        return
    way = (
        f"write it out once with: jmedllm convert {name} --output DIRECTORY --dtype bfloat16"
        if method in DEQUANTIZED
        else "take its release in bfloat16; to train in 4 bits, set mpeft.adapter.quantization: nf4"
    )
    raise InputError(
        f"base {name}: its weights are stored quantized ({method}), which nothing can be merged into; {way}"
    )


def require_plain_base(folder: Path) -> None:
    """`require_plain_weights` of a model directory.

    Raises:
        InputError: its weights are quantized, or its config.json is broken.
    """
    values = read_json(folder / "config.json")
    if isinstance(values, dict):
        require_plain_weights(values, str(folder))
