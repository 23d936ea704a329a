"""Compare the stages of a recipe with an earlier run in the same directory."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jmedllm.errors import MOST_NAMED, InputError
from jmedllm.files import hash_text, to_json
from jmedllm.manifest import Manifest
from jmedllm.stages.stage import Run, Stage, input_hash_of

UNCHANGED = "unchanged"

_SHORT = 30
"""Characters of a change that is named with both values."""


def is_unchanged(folder: Path, entry: Mapping[str, Any] | None, input_hash: str) -> bool:
    """Return whether a stage's manifest entry has these inputs, and its outputs exist."""
    if not entry or entry["input_hash"] != input_hash:
        return False
    return all((folder / name).exists() for name in entry["outputs"].get("files", ()))


def require_same_work(stage: Stage, run: Run, inputs: dict[str, Any], manifest: Manifest) -> None:
    """Check that the stage does not replace expensive results of other inputs.

    Raises:
        InputError: it would; the message names the differences.
    """
    work = run.folder / stage.name
    if not stage.keeps or input_hash_of(work) == hash_text(to_json(inputs)) or not _has_work(stage, work):
        return
    differing = _differences(stage, run, inputs, manifest) or "the manifest does not say which"
    raise InputError(
        f"{work} was trained on other inputs ({differing}); choose another --output, or remove {work} to train again"
    )


def compare_with_run(stages: Sequence[Stage], run: Run, manifest: Manifest) -> dict[str, str]:
    """Return what a run would do with each enabled stage, given the earlier run in its directory.

    A stage behind one that runs again is compared with the earlier outputs, because the new ones are not known.

    Args:
        stages: enabled stages, in order.
        run: the run, whose outputs are filled in as far as they are known.
        manifest: manifest of the earlier run.

    Raises:
        InputError: a stage would be refused.
    """
    found: dict[str, str] = {}
    again: list[str] = []
    for number, stage in enumerate(stages):
        entry = manifest["stages"].get(stage.name)
        inputs = stage.inputs(run)
        require_same_work(stage, run, inputs, manifest)
        if is_unchanged(run.folder, entry, hash_text(to_json(inputs))):
            outcome = "refused" if stage.keeps else "runs again"
            found[stage.name] = f"depends on {again[0]}: {outcome} if its result changes" if again else UNCHANGED
        else:
            found[stage.name] = _again(stage, run, inputs, manifest)
            again.append(stage.name)
        if entry is None or not is_unchanged(run.folder, entry, entry["input_hash"]):
            return found | {each.name: "runs" for each in stages[number + 1 :]}
        run.outputs[stage.name] = stage.outputs.from_dict(entry["outputs"])
    return found


def _again(stage: Stage, run: Run, inputs: dict[str, Any], manifest: Manifest) -> str:
    work = run.folder / stage.name
    if input_hash_of(work) == hash_text(to_json(inputs)) and _has_work(stage, work):
        return "resumes"
    if stage.name not in manifest["stages"]:
        return "runs"
    return f"runs again ({_differences(stage, run, inputs, manifest) or 'files are missing'})"


def _has_work(stage: Stage, work: Path) -> bool:
    return any(any(work.glob(pattern)) for pattern in stage.keeps)


def _differences(stage: Stage, run: Run, inputs: dict[str, Any], manifest: Manifest) -> str:
    """Name what differs between the inputs and those of the earlier run.

    Hashed inputs say nothing to a reader, so differing settings of the recipe are named instead of them, if there are
    any.
    """
    entry = manifest["stages"].get(stage.name) or manifest.get("started", {}).get(stage.name, {})
    named, hashed = _split(_differing(entry.get("inputs", {}), json.loads(to_json(inputs))))
    named = [
        f"{stage.name}.{name.removeprefix('settings.')}" if name.startswith("settings.") else name for name in named
    ]
    if hashed and "recipe" in entry:
        names = [each.name for each in run.stages]
        later = {"name", "controls", *names[names.index(stage.name) + 1 :]}
        before, after = (
            {key: value for key, value in recipe.items() if key not in later}
            for recipe in (entry["recipe"], json.loads(to_json(run.recipe.model_dump())))
        )
        settings = [name for each in _split(_differing(before, after)) for name in each]
        hashed = [name for name in settings if name not in named] or hashed
    return ", ".join([*named, *hashed][:MOST_NAMED])


def _split(differing: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Format differences: those with short values, and those without."""
    named = [f"{name} {change}" for name, change in differing if change]
    return named, [name for name, change in differing if not change]


def _differing(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the dotted names of differing values, each with its change, or "" if that is long or of several lines."""
    found: list[tuple[str, str]] = []
    for name in {**old, **new}:
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differing(before, after, f"{prefix}{name}.")
        elif before != after:
            change = f"{before} → {after}"
            found.append((f"{prefix}{name}", change if len(change) < _SHORT and change.isprintable() else ""))
    return found
