"""Load registry members of other packages from entry points."""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from jmedllm.errors import InputError


def plugins(kind: str, known: Iterable[str]) -> dict[str, Any]:
    """Load the objects that installed packages register in the entry point group `jmedllm.KIND`, by name.

    A registry module calls this in its last line, so that a plugin may import whatever the module defines.

    Args:
        kind: benchmarks, scorers, backends or stages.
        known: names that are already registered.

    Raises:
        InputError: a plugin cannot be imported, or its name is already registered.
    """
    taken, found = set(known), {}
    for entry in entry_points(group=f"jmedllm.{kind}"):
        if entry.name in taken:
            raise InputError(f"{_place(entry)}: {kind} already has {entry.name}; give it another name")
        taken.add(entry.name)
        found[entry.name] = _load(entry)
    return found


def plugin_names(kind: str) -> list[str]:
    """Return the names that installed packages register for a kind, without importing them."""
    return sorted(entry_points(group=f"jmedllm.{kind}").names)


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(f"{_place(entry)}: cannot be imported: {error}; fix or uninstall that package") from error


def _place(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "unknown"
    return f"package {package}, entry point {entry.group} {entry.name} = {entry.value}"
