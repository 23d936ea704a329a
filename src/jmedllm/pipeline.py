"""Run the stages of a recipe in a directory, skipping those that are up to date; or only check them."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError, unknown
from jmedllm.files import hash_text, to_json
from jmedllm.hardware import hardware
from jmedllm.locks import locked, require_unlocked
from jmedllm.manifest import Manifest, begin_manifest, read_manifest, versions, write_manifest
from jmedllm.models.folder import is_hub_id, resolve
from jmedllm.models.weights.quantization import without_quantization
from jmedllm.planning.published import published_config
from jmedllm.processes import is_main_process, process_group, receive, send
from jmedllm.run_state import UNCHANGED, compare_with_run, is_unchanged, require_same_work
from jmedllm.stages.base_files import BaseFiles, PublishedBase
from jmedllm.stages.stage import Run, Stage, described_models, model_names, source_folder

Log = Callable[[str, str], None]
"""Called with the name of a stage and a message for the user."""


def run_pipeline(stages: Iterable[Stage], run: Run, until: str | None, log: Log) -> None:
    """Run the stages in order up to and including `until`; all of them if it is None.

    A stage is skipped if the manifest has it with the same inputs. Only one command at a time may use a run
    directory. The main process decides what runs and writes the manifest.

    Raises:
        InputError: another command is using the folder, or a stage cannot be performed.
    """
    run = replace(run, stages=tuple(stages))
    chosen = stages_until(run.stages, until)
    with process_group():
        if not is_main_process():
            _follow(run)
            return
        with locked(run.folder):
            manifest = begin_manifest(run.folder)
            manifest["enabled"] = [stage.name for stage in run.stages if stage.enabled(run.recipe)]
            manifest["models"] = model_names(run.stages, run.recipe)
            manifest["descriptions"] = described_models(run.stages, run.recipe)
            run = replace(run, date=manifest["date"])
            send(run.date)
            enabled = _enabled(chosen, run)
            base = _base_files(run)
            for stage in enabled:
                if stage.name not in manifest["stages"]:
                    stage.check(run)
                    if base:
                        stage.check_base(run, base)
            for stage in chosen:
                if stage in enabled:
                    _run_stage(stage, run, manifest, log)
                elif stage.section:
                    log(stage.name, "not in the recipe")
        send(None)


@dataclass(frozen=True, slots=True)
class Checked:
    """Checks of a stage by `check_pipeline`.

    Attributes:
        checks: names of the checks.
        is_complete: whether the base model was on this machine, so that no check was skipped. Otherwise only its
            config was checked, if it comes with jmedllm.
    """

    stage: str
    checks: Sequence[str]
    is_complete: bool


def check_pipeline(stages: Iterable[Stage], run: Run, until: str | None = None) -> list[Checked]:
    """Perform the checks of all stages that the recipe enables. Writes nothing and loads no weights.

    Raises:
        InputError: the recipe enables no stage, a stage would be refused, or the run's folder is not writable or in
            use.
    """
    run = replace(run, stages=tuple(stages))
    require_writable(run.folder)
    require_unlocked(run.folder)
    manifest = begin_manifest(run.folder)
    run = replace(run, date=manifest["date"])
    is_here = is_base_here(run)
    base = _base_files(run) if is_here else None
    published = None if is_here else _published_base(run)
    checked = []
    for stage in _enabled(stages_until(run.stages, until), run):
        checks = [*stage.check(run), *(stage.check_base(run, base) if base else ())]
        checks += stage.check_config(run, published) if published else ()
        checked.append(Checked(stage.name, checks, is_here))
    return checked


def compare_pipeline(stages: Iterable[Stage], run: Run, until: str | None = None) -> dict[str, str]:
    """Return what a run would do with each stage, if its directory has an earlier run; else nothing.

    Reads the weights of the models that are compared, to hash them.

    Raises:
        InputError: a stage would be refused.
    """
    run = replace(run, stages=tuple(stages), outputs={})
    manifest = read_manifest(run.folder)
    if manifest is None or not is_base_here(run):
        return {}
    run = replace(run, date=manifest["date"])
    return compare_with_run(_enabled(stages_until(run.stages, until), run), run, manifest)


def stages_until(stages: Sequence[Stage], until: str | None) -> Sequence[Stage]:
    """Return the stages up to and including `until`.

    Raises:
        InputError: no stage has this name.
    """
    names = [stage.name for stage in stages]
    if until is None:
        return stages
    if until not in names:
        raise unknown("stage", until, names)
    return stages[: names.index(until) + 1]


def _enabled(stages: Sequence[Stage], run: Run) -> list[Stage]:
    """Return the stages that the recipe enables.

    Raises:
        InputError: there are none, or one needs another that the recipe does not enable.
    """
    enabled = [stage for stage in stages if stage.enabled(run.recipe)]
    if not enabled:
        sections = ", ".join(stage.name for stage in stages if stage.section and not stage.needs)
        raise InputError(f"recipe {run.recipe.name}: no stage is enabled; add one of the sections {sections}")
    names = [stage.name for stage in enabled]
    for stage in enabled:
        for name in stage.needs:
            if name not in names:
                raise InputError(f"recipe {run.recipe.name}: {stage.name} needs the stage {name}; add its section")
    return enabled


def _base_files(run: Run) -> BaseFiles | None:
    """Return the base model for the checks; None if the run creates it."""
    if run.recipe.base.path is None:
        return None
    return BaseFiles(source_folder(run), dequantize=run.recipe.base.dequantize)


def _published_base(run: Run) -> PublishedBase | None:
    """Return the base model by its published config; None if it does not come with jmedllm."""
    path = run.recipe.base.path or ""
    published = published_config(path)
    if published is None:
        return None
    values = without_quantization(published.values) if run.recipe.base.dequantize else published.values
    return PublishedBase(path, values)


def is_base_here(run: Run) -> bool:
    """Return whether the base model's files are on this machine; a base that the run creates needs no check.

    Raises:
        InputError: they are not, and the path cannot be the id of a model to download.
    """
    if run.recipe.base.path is None:
        return True
    try:
        resolve(run.recipe.base.path, revision=run.recipe.base.revision)
    except InputError:
        if not is_hub_id(run.recipe.base.path):
            raise
        return False
    return True


def require_writable(folder: Path) -> None:
    """Check that a run directory can be created or written to.

    Raises:
        InputError: it is a file, or this user has no write permission.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise InputError(f"{existing}: is a file; choose another --output")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"{folder}: cannot be written: no permission in {existing}; choose another --output")


def _follow(run: Run) -> None:
    """Run the shared stages that the main process announces."""
    run = replace(run, date=receive())
    while (message := receive()) is not None:
        name, input_hash, outputs = message
        run.outputs.update(outputs)
        next(stage for stage in run.stages if stage.name == name).perform(run, input_hash)


def _run_stage(stage: Stage, run: Run, manifest: Manifest, log: Log) -> None:
    inputs = stage.inputs(run)
    input_hash = hash_text(to_json(inputs))
    entry = manifest["stages"].get(stage.name)
    if is_unchanged(run.folder, entry, input_hash):
        outputs = stage.outputs.from_dict(entry["outputs"])
        log(stage.name, UNCHANGED)
    else:
        require_same_work(stage, run, inputs, manifest)
        # Store the whole recipe, because the inputs omit settings that affect only speed and memory.
        recipe = run.recipe.model_dump()
        # The stage may remove its old outputs, so the manifest must not list them if the process is killed.
        manifest["stages"].pop(stage.name, None)
        manifest.setdefault("started", {})[stage.name] = {"inputs": inputs, "recipe": recipe}
        write_manifest(run.folder, manifest)
        start = time.monotonic()
        if stage.shared:
            send((stage.name, input_hash, run.outputs))
        outputs = stage.perform(run, input_hash)
        seconds = round(time.monotonic() - start, 1)
        entry = {
            "input_hash": input_hash,
            "inputs": inputs,
            "recipe": recipe,
            "outputs": outputs.to_dict(),
            "seconds": seconds,
            "versions": versions(),
            "hardware": hardware(run.precision.device),
        }
        manifest["stages"][stage.name] = entry
        del manifest["started"][stage.name]
        write_manifest(run.folder, manifest)
        log(stage.name, f"done in {seconds:.0f} s" + _numbers_of(entry["outputs"]))
    run.outputs[stage.name] = outputs


def _numbers_of(outputs: dict[str, Any]) -> str:
    """Format the counts and the loss among the outputs of a stage, for the log."""
    numbers = [
        f"{name.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in outputs.items()
        if isinstance(value, int | float)
    ]
    return f": {', '.join(numbers)}" if numbers else ""
