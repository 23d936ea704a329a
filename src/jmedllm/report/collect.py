"""Finished sittings, found again on disk."""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.exam.question import LANGUAGES
from jmedllm.exam.sitting import Sitting, read_sitting
from jmedllm.files import read_json

_STAGES = ("base", "mfpt", "mpeft")


def collect(folders: Iterable[Path]) -> list[Sitting]:
    """All finished sittings below the folders; models in the order a run trains them, then by name,
    each with Japanese first. Models of one name that sat the same paper have their folder added to it.

    Raises:
        InputError: a folder is missing or holds no finished sitting.
    """
    found: dict[Path, Sitting] = {}
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give the --output of an exam or a run")
        # Resolved, so that a folder given twice counts once.
        here = {path: sitting for path in _summaries(folder.resolve()) if (sitting := read_sitting(path))}
        if not here:
            raise InputError(f"{folder}: holds no finished exam; run `jmedllm exam` or `jmedllm run` first")
        found |= here
    return _told_apart(dict(sorted(found.items(), key=lambda item: _order(item[1]))))


def _summaries(folder: Path) -> list[Path]:
    """Files that may hold a sitting: in a run those of its present recipe, which older ones lie beside."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return sorted(folder.rglob("*.json"))
    done = read_json(manifest)["stages"].get("exam")
    return [folder / name for name in done["made"]["files"]] if done else []


def _told_apart(found: dict[Path, Sitting]) -> list[Sitting]:
    def row(sitting: Sitting) -> tuple[str, ...]:
        return sitting.model, sitting.settings["benchmark"], sitting.settings["language"]

    alike = Counter(map(row, found.values()))
    models = {sitting.model for sitting in found.values() if alike[row(sitting)] > 1}
    places = [path.parent for path, sitting in found.items() if sitting.model in models]
    above = os.path.commonpath(places) if places else ""
    return [
        _renamed(sitting, path.parent.relative_to(above)) if sitting.model in models else sitting
        for path, sitting in found.items()
    ]


def _renamed(sitting: Sitting, place: Path) -> Sitting:
    return replace(sitting, settings=sitting.settings | {"model": f"{sitting.model} ({place})"})


def _order(sitting: Sitting) -> tuple[int, str, str, int]:
    place = _STAGES.index(sitting.model) if sitting.model in _STAGES else len(_STAGES)
    language = LANGUAGES.index(sitting.settings["language"])
    return place, sitting.model, sitting.settings["benchmark"], language
