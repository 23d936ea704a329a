"""The run directory: which stage was done on which inputs, and what it made."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jmedllm.files import atomic_folder, hash_text, locked, to_json, write_atomic
from jmedllm.hardware import hardware
from jmedllm.manifest import Manifest, begin_manifest, write_manifest
from jmedllm.precision import Precision
from jmedllm.processes import is_first, receive, send, together
from jmedllm.recipe import Recipe, Stage


@dataclass(frozen=True, slots=True)
class Run:
    """A recipe being carried out in a directory.

    Attributes:
        made: what the stages so far have made, as each stage reported it.
    """

    recipe: Recipe
    folder: Path
    precision: Precision
    made: dict[Stage, dict[str, Any]]

    @property
    def data(self) -> Path:
        """The data directory."""
        return Path(self.recipe.data)


@dataclass(frozen=True, slots=True)
class Step:
    """One stage as the run sees it.

    Attributes:
        wanted: whether the recipe asks for it.
        inputs: all that its result depends on, as plain values; large things by their hash.
        perform: does the work in the run's folder, going on where a killed run stopped; gets the hash of
            the inputs and returns what later stages depend on, as plain values.
        shared: whether all processes that torchrun started perform it together; what those but the first
            return is not used. The first performs the other steps, and the rest wait.
    """

    stage: Stage
    wanted: Callable[[Recipe], bool]
    inputs: Callable[[Run], dict[str, Any]]
    perform: Callable[[Run, str], dict[str, Any]]
    shared: bool = False


Tell = Callable[[Stage, str], None]
"""Called with a stage and what happened to it, in words for the user."""


def carry_out(steps: Sequence[Step], run: Run, until: Stage, tell: Tell) -> None:
    """Carry out the steps in order up to and including `until`.

    A step is skipped if the manifest says that it was done on the same inputs. One command at a time; of its
    processes the first decides, and keeps the manifest.

    Raises:
        InputError: another command is at work in the folder, or a step cannot be done.
    """
    with together():
        if not is_first():
            _follow(steps, run)
            return
        with locked(run.folder):
            manifest = begin_manifest(run.folder)
            for step in steps:
                if not step.wanted(run.recipe):
                    tell(step.stage, "not in the recipe")
                else:
                    _carry_out_one(step, run, manifest, tell)
                if step.stage == until:
                    break
        send(None)


def _follow(steps: Sequence[Step], run: Run) -> None:
    """Perform the shared steps that the first process calls for."""
    while (told := receive()) is not None:
        stage, identity, made = told
        run.made.update(made)
        next(step for step in steps if step.stage == stage).perform(run, identity)


def _carry_out_one(step: Step, run: Run, manifest: Manifest, tell: Tell) -> None:
    inputs = step.inputs(run)
    identity = hash_text(to_json(inputs))
    entry = manifest["stages"].get(step.stage)
    if entry and entry["identity"] == identity and _whole(run.folder, entry["made"]):
        tell(step.stage, "unchanged")
    else:
        # From here on the old product may be gone; a kill must not leave it in the manifest.
        manifest["stages"].pop(step.stage, None)
        write_manifest(run.folder, manifest)
        began = time.monotonic()
        if step.shared:
            send((step.stage, identity, run.made))
        made = step.perform(run, identity)
        seconds = round(time.monotonic() - began, 1)
        entry = {
            "identity": identity,
            "inputs": inputs,
            # All of it: some settings change speed and memory only and are left out of the inputs.
            "recipe": run.recipe.model_dump(),
            "made": made,
            "seconds": seconds,
            "versions": versions(),
            "hardware": hardware(run.precision.device),
        }
        manifest["stages"][step.stage] = entry
        write_manifest(run.folder, manifest)
        tell(step.stage, f"done in {seconds:.0f} s{_in_words(made)}")
    run.made[step.stage] = entry["made"]


def _in_words(made: dict[str, Any]) -> str:
    """The counts and the loss among what a stage made."""
    told = [
        f"{name.replace('_', ' ')} {value:,}"
        if isinstance(value, int)
        else f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in made.items()
        if isinstance(value, int | float)
    ]
    return f": {', '.join(told)}" if told else ""


def versions() -> dict[str, str]:
    """Versions of this package and of those that the numbers come from."""
    names = ("jmedllm", "torch", "transformers", "tokenizers", "peft", "cydifflib")
    return {name: version(name) for name in names}


def _whole(folder: Path, made: dict[str, Any]) -> bool:
    return all((folder / name).exists() for name in made.get("files", ()))


def files_in(run: Run, place: str) -> list[str]:
    """All files below a folder of the run, for what a stage has made: one that goes missing is made again."""
    return sorted(p.relative_to(run.folder).as_posix() for p in (run.folder / place).rglob("*") if p.is_file())


def own_folder(folder: Path, identity: str) -> Path:
    """A folder for work on these inputs: emptied, by the first process, if it holds work on other ones.

    Raises:
        InputError: it holds something that is no work of ours, or cannot be written.
    """
    mark = folder / "identity"
    if is_first() and not (mark.is_file() and mark.read_text(encoding="utf-8") == identity):
        with atomic_folder(folder, mark.name) as empty:
            write_atomic(empty / mark.name, identity)
    return folder
