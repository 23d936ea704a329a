"""Finished sittings, found again on disk."""

from collections.abc import Iterable
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.exam.question import LANGUAGES
from jmedllm.exam.sitting import Sitting, read_sitting

_STAGES = ("base", "mfpt", "mpeft")


def collect(folders: Iterable[Path]) -> list[Sitting]:
    """All finished sittings below the folders; models in the order a run trains them, then by name,
    each with Japanese first.

    Raises:
        InputError: a folder is missing or holds no finished sitting.
    """
    sittings: list[Sitting] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give the --output of an exam or a run")
        found = [sitting for path in sorted(folder.rglob("*.json")) if (sitting := read_sitting(path))]
        if not found:
            raise InputError(f"{folder}: holds no finished exam; run `jmedllm exam` or `jmedllm run` first")
        sittings += found
    return sorted(sittings, key=_order)


def _order(sitting: Sitting) -> tuple[int, str, str, int]:
    place = _STAGES.index(sitting.model) if sitting.model in _STAGES else len(_STAGES)
    language = LANGUAGES.index(sitting.settings["language"])
    return place, sitting.model, sitting.settings["benchmark"], language
