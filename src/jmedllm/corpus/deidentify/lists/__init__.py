"""Reads the lists of names and places beside this file."""

from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent


@cache
def rows(name: str) -> tuple[tuple[str, ...], ...]:
    """Return the rows of a list, split at tabs. Empty lines and those that begin with # are comments."""
    lines = (_HERE / name).read_text(encoding="utf-8").splitlines()
    return tuple(tuple(line.split("\t")) for line in lines if line and not line.startswith("#"))


@cache
def words(name: str) -> frozenset[str]:
    """Return the first column of a list."""
    return frozenset(row[0] for row in rows(name))
