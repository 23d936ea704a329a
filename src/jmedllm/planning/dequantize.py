"""Memory and disk of the stage dequantize, which writes a quantized base in bfloat16."""

import json
from math import prod

from jmedllm.planning.counts import PlannedBase
from jmedllm.planning.needs import PYTHON, WITHOUT_CUDA, Component, Needs
from jmedllm.planning.shape import structure

DECODING = 20
"""Bytes for each number of a matrix while it is decoded, measured (docs/plan.md)."""

WRITTEN = 2
"""Bytes of a number in bfloat16."""


def plan_dequantize(base: PlannedBase) -> Needs | None:
    """Estimate what writing the base in bfloat16 needs; None if the recipe does not dequantize it.

    The base is written tensor by tensor, and the experts in a tensor are decoded one by one.
    """
    if not base.is_dequantized:
        return None
    network = structure(json.loads(base.config), base.name, base.dtype)
    weights = list(network.parameters())
    # Embedding and head are stored in bfloat16; they are read and written as they are.
    plain = {id(layer.weight) for layer in (network.get_input_embeddings(), network.get_output_embeddings()) if layer}
    peak = max(_peak(tuple(each.shape), is_plain=id(each) in plain) for each in weights)
    return Needs(
        (
            Component("the base in bfloat16", disk=WRITTEN * sum(each.numel() for each in weights)),
            Component("the largest tensor", host=peak),
            Component(PYTHON, host=WITHOUT_CUDA),
        )
    )


def _peak(shape: tuple[int, ...], *, is_plain: bool) -> int:
    return 2 * WRITTEN * prod(shape) if is_plain else WRITTEN * prod(shape) + DECODING * prod(shape[-2:])
