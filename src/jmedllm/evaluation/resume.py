"""The two files of a paper that was begun, and under which settings: what goes on in them must be the same."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jmedllm import __version__
from jmedllm.errors import InputError
from jmedllm.files import read_json, to_json, write_atomic


def files_of(task: str, folder: Path) -> tuple[Path, Path]:
    """Where the records and the summary of a paper of this name lie."""
    return folder / f"{task}.jsonl", folder / f"{task}.json"


def begin(summary_file: Path, settings: dict[str, Any]) -> None:
    """Say under which settings the records to come are sat."""
    summary = {"settings": settings, "trace": {"jmedllm": __version__}}
    write_atomic(summary_file, to_json(summary, indent=2) + "\n")


def begun_settings(records_file: Path, summary_file: Path) -> dict[str, Any] | None:
    """Settings under which the records there were begun; None where there are none.

    Raises:
        InputError: there are such files, and they are not ours.
    """
    summary = read_json(summary_file) if summary_file.exists() else None
    if summary_file.exists() and not _is_ours(summary):
        raise InputError(f"{summary_file}: is no summary of an exam; choose another --output")
    if not records_file.exists():
        return None
    if summary is None:
        raise InputError(f"{records_file}: has no {summary_file.name} beside it; choose another --output")
    return dict(summary["settings"])


def date_begun(tasks: Iterable[str], folders: Iterable[Path]) -> str | None:
    """The day in the prompts of the first of these papers that was begun in one of the folders and has one."""
    files = [files_of(task, folder) for folder in folders for task in tasks]
    found = (begun_settings(*each) for each in files)
    return next((settings["date"] for settings in found if settings and settings.get("date")), None)


FREE = {"skip_invalid"}
"""What may change on the way: it lets items be left, and changes no answer."""


def differing_settings(before: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Names of the settings that shape answers and are no longer the same."""
    names = [name for name in before | settings if name not in FREE]
    return [name for name in names if before.get(name) != settings.get(name)]


def require_same(summary_file: Path, before: dict[str, Any], settings: dict[str, Any]) -> None:
    """Check that a paper goes on under the settings that it was begun under.

    Raises:
        InputError: it does not; names those that differ.
    """
    if differing := differing_settings(before, settings):
        changes = ", ".join(f"{key} {before.get(key)!r} is now {settings.get(key)!r}" for key in differing)
        raise InputError(f"{summary_file}: sat with other settings ({changes}); choose another --output")


def _is_ours(summary: Any) -> bool:
    if not isinstance(summary, dict):
        return False
    parts = {"settings": "fingerprint", "trace": "jmedllm"}
    return all(isinstance(summary.get(part), dict) and key in summary[part] for part, key in parts.items())
