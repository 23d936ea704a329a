"""Check that the tensors in model files match the class, because transformers initializes missing ones randomly."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from jmedllm.errors import InputError

_NAMED = 3
"""Number of tensors of each kind that a message names."""

WHOLE_NUMBERS = ("I", "U", "BOOL")
"""First letters of safetensors' names of integer formats."""

_FORMER = {"masked_bias"}
"""Constants that older versions of classes stored and that current versions neither have nor declare."""


def require_tensors(what: str, network: Any, found: Mapping[str, Any]) -> None:
    """Check the report of transformers about the tensors that it found while loading.

    The report omits tied weights and tensors that a class declares to be ignorable. Buffers that a class computes by
    itself are accepted here.

    Args:
        what: what was loaded, for the message.
        network: the loaded network, with or without weights.
        found: `missing_keys`, `unexpected_keys` and `mismatched_keys` (name, shape found, shape expected).

    Raises:
        InputError: tensors are missing, unknown, or have another shape; the message names the first and the nearest.
    """
    computed = {name for name, _ in network.named_buffers()} - {*network.state_dict()}
    last = {name.rpartition(".")[2] for name in computed} | _FORMER
    unknown = [name for name in found["unexpected_keys"] if name.rpartition(".")[2] not in last]
    require_no_difference(what, type(network).__name__, found["missing_keys"], unknown, found["mismatched_keys"])


def require_fractions(what: str, dtypes: Mapping[str, str]) -> None:
    """Check that no weight is stored as integers, which have no meaning without a scale.

    Args:
        what: what is loaded, for the message.
        dtypes: dtype of each weight.

    Raises:
        InputError: a weight is stored as integers.
    """
    for name, dtype in dtypes.items():
        if dtype.startswith(WHOLE_NUMBERS):
            raise InputError(
                f"{what}: {name} is stored as {dtype}, without a scale for these numbers; copy config.json and the "
                "weights again, or use the release in bfloat16"
            )


def require_no_difference(
    what: str,
    owner: str,
    missing: Iterable[str],
    unknown: Iterable[str],
    mismatched: Iterable[tuple[str, Collection[int], Collection[int]]],
) -> None:
    """Check that no tensor is missing, unknown, or of another shape than in its owner.

    Raises:
        InputError: see `require_tensors`.
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
    """Suggest the known name for a missing one: that with the longest common suffix, else the most similar."""
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
