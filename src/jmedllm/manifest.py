"""The manifest of a run directory: the inputs and outputs of each finished stage."""

from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jmedllm import __version__
from jmedllm.errors import InputError
from jmedllm.files import read_json, to_json, write_atomic

NAME = "manifest.json"
BASE = "base"
"""Name of the base model among the models of a run."""

REPORTS = ("report.md", "report.html")
FORMAT = 3
"""Increased whenever older run directories cannot be resumed."""

Manifest = dict[str, Any]


def read_manifest(folder: Path) -> Manifest | None:
    """Read the manifest of a run directory; None if it has none written by jmedllm.

    Raises:
        InputError: another version of jmedllm wrote it.
    """
    path = folder / NAME
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        return None
    if content.get("format") != FORMAT:
        raise InputError(f"{path}: was written by another version of jmedllm; choose another --output")
    return content


def last_model(run: Path) -> Path:
    """Return the directory of the last model that a run has written.

    Raises:
        InputError: there is none, or what was trained last is an adapter.
    """
    manifest: dict[str, Any] = read_manifest(run) or {}
    enabled: list[str] = manifest["enabled"]
    for stage in reversed(enabled):  # in order; a stage that ran again is the last of `stages`
        outputs = manifest["stages"].get(stage, {}).get("outputs", {})
        if "model" in outputs and (run / stage / "model").is_dir():
            return run / stage / "model"
        if "adapter" in outputs:
            raise InputError(
                f"{run}: stage {stage} has trained an adapter that is not merged yet; finish the run, or merge it "
                f"with: jmedllm merge --adapter {run / stage / 'adapter'}"
            )
    raise InputError(f"{run}: the run has written no model yet; finish it with: jmedllm run RECIPE --output {run}")


def begin_manifest(folder: Path) -> Manifest:
    """Read or create the manifest of a run directory; a new one gets today's date as the start of the run.

    Raises:
        InputError: a file of that name was not written by jmedllm.
    """
    found = read_manifest(folder)
    for name in (NAME, *REPORTS):
        if found is None and (folder / name).exists():
            raise InputError(f"{folder / name} was not written by jmedllm; choose another --output")
    return {"format": FORMAT, "date": date.today().isoformat(), "stages": {}} | (found or {})


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, atomically."""
    write_atomic(folder / NAME, to_json(manifest, indent=2) + "\n")


def versions() -> dict[str, str]:
    """Return the versions of this package and of the packages that affect its results."""
    names = ("torch", "transformers", "tokenizers", "peft", "cydifflib")
    return {"jmedllm": __version__} | {name: version(name) for name in names}
