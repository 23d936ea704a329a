"""The manifest of a run directory: which stage was done on which inputs, and what it made."""

from datetime import date
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.files import read_json, to_json, write_atomic

NAME = "manifest.json"
REPORTS = ("report.md", "report.html")
FORMAT = 2
"""Raised whenever older run directories can no longer be gone on with."""

Manifest = dict[str, Any]


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a run directory; None where there is none of ours.

    Raises:
        InputError: it is of another version of jmedllm.
    """
    path = folder / NAME
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        return None
    if content.get("format") != FORMAT:
        raise InputError(f"{path}: of another version of jmedllm; choose another --output")
    return content


def begin_manifest(folder: Path) -> Manifest:
    """The manifest of a run directory, with the day on which it was begun; for a new run, today's.

    Raises:
        InputError: a file of the user's lies where the run would write.
    """
    found = read_manifest(folder)
    for name in (NAME, *REPORTS):
        if found is None and (folder / name).exists():
            raise InputError(f"{folder / name} is no file of jmedllm's; choose another --output")
    return {"format": FORMAT, "date": date.today().isoformat(), "stages": {}} | (found or {})


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, atomically."""
    write_atomic(folder / NAME, to_json(manifest, indent=2) + "\n")
