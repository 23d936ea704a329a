"""Load registry members of other packages from entry points."""

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from jmedllm.errors import InputError

Member = TypeVar("Member")


def plugins(kind: str, known: Iterable[str], member: type[Member]) -> dict[str, Member]:
    """Load the objects that installed packages register in the entry point group `jmedllm.KIND`, by name.

    A registry module calls this in its last line, so that a plugin may import whatever the module defines.

    Args:
        kind: benchmarks, scorers, backends or stages.
        known: names that are already registered.
        member: type of the objects.

    Raises:
        InputError: a plugin cannot be imported, is not a `member`, or its name is already registered or has a comma.
    """
    taken, found = set(known), dict[str, Member]()
    for entry in entry_points(group=f"jmedllm.{kind}"):
        if entry.name in taken:
            raise InputError(f"{_place(entry)}: {kind} already has {entry.name}; give it another name")
        if "," in entry.name:
            raise InputError(
                f"{_place(entry)}: the name has a comma, which separates names in options; give it another name"
            )
        taken.add(entry.name)
        found[entry.name] = _load(entry, member)
    return found


def plugin_names(kind: str) -> list[str]:
    """Return the names that installed packages register for a kind, without importing them."""
    return sorted(entry_points(group=f"jmedllm.{kind}").names)


def _load(entry: EntryPoint, member: type[Member]) -> Member:
    try:
        loaded = entry.load()
    except Exception as error:
        raise InputError(
            f"{_place(entry)}: cannot be imported: {type(error).__name__}: {error}; fix or uninstall that package"
        ) from error
    if not isinstance(loaded, member):
        raise InputError(
            f"{_place(entry)}: is of type {type(loaded).__name__}, not {member.__name__}; "
            "fix or uninstall that package"
        )
    return loaded


def _place(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist else "unknown"
    return f"package {package}, entry point {entry.group} {entry.name} = {entry.value}"
