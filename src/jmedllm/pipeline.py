"""The run directory: which stage was done on which inputs, and what it made."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jmedllm.errors import MOST_NAMED, InputError
from jmedllm.evaluation.prompts.format import PromptConfig
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
        date: the day on which the run was begun, as YYYY-MM-DD: today's for chat templates, also where it goes on
            on another day. Empty until it is carried out.
        shows_example: whether the text of the first training example is printed.
    """

    recipe: Recipe
    folder: Path
    precision: Precision
    made: dict[Stage, dict[str, Any]]
    date: str = ""
    shows_example: bool = False

    @property
    def prompt_config(self) -> PromptConfig:
        """How questions are put to the models, with the day that chat templates read."""
        prompt = self.recipe.prompt
        return prompt.model_copy(update={"date": prompt.date or self.date or None})

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
        check: raises an InputError for whatever can be known to go wrong before any stage is begun.
        keeps: patterns of what in the stage's folder took days to make: if it was made on other inputs, the stage
            is refused instead of done anew in its place.
        shared: whether all processes that torchrun started perform it together; what those but the first
            return is not used. The first performs the other steps, and the rest wait.
    """

    stage: Stage
    wanted: Callable[[Recipe], bool]
    inputs: Callable[[Run], dict[str, Any]]
    perform: Callable[[Run, str], dict[str, Any]]
    check: Callable[[Run], None] = lambda run: None
    keeps: tuple[str, ...] = ()
    shared: bool = False


_MARK = "identity"

Tell = Callable[[Stage, str], None]
"""Called with a stage and what happened to it, in words for the user."""


def run_pipeline(steps: Sequence[Step], run: Run, until: Stage, tell: Tell) -> None:
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
            run = replace(run, date=manifest["date"])
            send(run.date)
            last = next(number for number, step in enumerate(steps) if step.stage == until)
            wanted = [step for step in steps[: last + 1] if step.wanted(run.recipe)]
            for step in wanted:
                if step.stage not in manifest["stages"]:
                    step.check(run)
            for step in steps[: last + 1]:
                if step in wanted:
                    _run_stage(step, run, manifest, tell)
                else:
                    tell(step.stage, "not in the recipe")
        send(None)


def _follow(steps: Sequence[Step], run: Run) -> None:
    """Perform the shared steps that the first process calls for."""
    run = replace(run, date=receive())
    while (told := receive()) is not None:
        stage, identity, made = told
        run.made.update(made)
        next(step for step in steps if step.stage == stage).perform(run, identity)


def _run_stage(step: Step, run: Run, manifest: Manifest, tell: Tell) -> None:
    inputs = step.inputs(run)
    identity = hash_text(to_json(inputs))
    entry = manifest["stages"].get(step.stage)
    if entry and entry["identity"] == identity and _whole(run.folder, entry["made"]):
        tell(step.stage, "unchanged")
    else:
        if step.keeps:
            _require_same_work(step, run.folder, identity, inputs, manifest)
        # From here on the old product may be gone; a kill must not leave it in the manifest.
        manifest["stages"].pop(step.stage, None)
        manifest.setdefault("begun", {})[step.stage] = inputs
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
        del manifest["begun"][step.stage]
        write_manifest(run.folder, manifest)
        tell(step.stage, f"done in {seconds:.0f} s{_in_words(made)}")
    run.made[step.stage] = entry["made"]


def _require_same_work(step: Step, folder: Path, identity: str, inputs: dict[str, Any], manifest: Manifest) -> None:
    """Refuse to put new work in the place of what took long and was made on other inputs."""
    work = folder / step.stage
    if _identity_of(work) == identity or not any(any(work.glob(pattern)) for pattern in step.keeps):
        return
    entry = manifest["stages"].get(step.stage)
    old = entry["inputs"] if entry else manifest.get("begun", {}).get(step.stage, {})
    new = json.loads(to_json(inputs))  # as the manifest tells it
    differing = ", ".join(_differing(old, new)[:MOST_NAMED]) or "no longer known which"
    raise InputError(
        f"{work} was trained on other inputs ({differing}); "
        "choose another --output, or remove this folder to train anew"
    )


def _differing(old: dict[str, Any], new: dict[str, Any], place: str = "") -> list[str]:
    """Dotted names of the values that differ; short ones are shown."""
    found = []
    for name in old | new:
        one, other = old.get(name), new.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differing(one, other, f"{place}{name}.")
        elif one != other:
            told = f"{one} → {other}"
            found.append(f"{place}{name}" + f" {told}" * (len(told) < 30))
    return found


def _in_words(made: dict[str, Any]) -> str:
    """The counts and the loss among what a stage made."""
    told = [
        f"{name.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{name.replace('_', ' ')} {value:.4g}"
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
    if is_first() and _identity_of(folder) != identity:
        with atomic_folder(folder, _MARK) as empty:
            write_atomic(empty / _MARK, identity)
    return folder


def _identity_of(folder: Path) -> str | None:
    mark = folder / _MARK
    return mark.read_text(encoding="utf-8") if mark.is_file() else None
