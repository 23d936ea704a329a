"""Whether the tensors in a model's files are those of its class; transformers fills gaps with random numbers."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from jmedllm.errors import InputError

_NAMED = 3
"""Tensors of each kind that a message names."""

WHOLE_NUMBERS = ("I", "U", "BOOL")
"""How safetensors' names of formats of whole numbers begin."""

_FORMER = {"masked_bias"}
"""Constants that classes of older versions stored, and that today's neither hold nor declare."""


def require_tensors(what: str, network: Any, found: Mapping[str, Any]) -> None:
    """Check what transformers says of the tensors it has met while loading.

    Tied weights and what a class declares to be ignorable are no part of it; tensors that a class keeps as buffers
    which it computes by itself are let pass here.

    Args:
        what: was loaded, for the message.
        network: as it was loaded, with or without contents.
        found: `missing_keys`, `unexpected_keys` and `mismatched_keys` (name, shape found, shape wanted).

    Raises:
        InputError: some are missing, unknown, or of another shape; the first are named, and the nearest ones.
    """
    computed = {name for name, _ in network.named_buffers()} - {*network.state_dict()}
    last = {name.rpartition(".")[2] for name in computed} | _FORMER
    unknown = [name for name in found["unexpected_keys"] if name.rpartition(".")[2] not in last]
    require_no_difference(what, type(network).__name__, found["missing_keys"], unknown, found["mismatched_keys"])


def require_fractions(what: str, stored: Mapping[str, Mapping[str, Any]], weights: Collection[str]) -> None:
    """Check that no weight is stored as whole numbers, which mean nothing without a scale.

    Args:
        what: is loaded, for the message.
        stored: `dtype` of each tensor in its files.
        weights: names of those that are weights, among them.

    Raises:
        InputError: one is.
    """
    for name in weights:
        if (dtype := str(stored[name]["dtype"])).startswith(WHOLE_NUMBERS):
            raise InputError(
                f"{what}: {name} is stored as {dtype}, but its configuration names no quantization that would "
                "give these numbers a scale; copy the configuration again, or take the release in bfloat16"
            )


def require_no_difference(
    what: str,
    owner: str,
    missing: Iterable[str],
    unknown: Iterable[str],
    mismatched: Iterable[tuple[str, Collection[int], Collection[int]]],
) -> None:
    """Check that no tensor is missing, unknown, or of another shape than its owner has it.

    Raises:
        InputError: one is; see `require_tensors`.
    """
    lacking, strange = sorted(missing), sorted(unknown)
    differing = sorted(f"{name} is {list(here)}, not {list(there)}" for name, here, there in mismatched)
    parts = []
    if lacking:
        parts.append(f"{_some(lacking)} {_are(lacking)} missing{_nearest(lacking, strange)}")
    if strange:
        parts.append(f"{_some(strange)} {_are(strange)} not in {owner}")
    if differing:
        parts.append(_some(differing))
    if parts:
        raise InputError(
            f"{what}: its tensors are not those of {owner}: {'; '.join(parts)}; copy the files again, or give the "
            "tensors these names and shapes"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _nearest(missing: list[str], known: list[str]) -> str:
    """What may have been meant by a missing name: the one known that ends most like it, else the most alike."""
    for name in missing:
        parts = name.split(".")
        for start in range(max(1, len(parts) - 1)):
            end = "." + ".".join(parts[start:])
            if ends := [each for each in known if f".{each}".endswith(end)]:
                return f" (for {name} there is {ends[0]})"
    for name in missing[:_NAMED]:
        if near := difflib.get_close_matches(name, known, n=1, cutoff=0.7):
            return f" (for {name} there is {near[0]})"
    return ""
