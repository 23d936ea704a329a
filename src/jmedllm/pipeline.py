"""Run the stages of a recipe in a directory, skipping those that are up to date."""

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
from jmedllm.processes import is_main_process, process_group, receive, send
from jmedllm.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Run:
    """A recipe and the directory that it runs in.

    Attributes:
        outputs: outputs of the finished stages, by stage name.
        date: the day on which the run was started, as YYYY-MM-DD. Chat templates see it as today's date, also when
            the run resumes on another day. Empty before the pipeline runs.
        shows_example: whether to print the text of the first training example.
    """

    recipe: Recipe
    folder: Path
    precision: Precision
    outputs: dict[str, dict[str, Any]]
    date: str = ""
    shows_example: bool = False

    @property
    def prompt_config(self) -> PromptConfig:
        """The recipe's prompt settings, with the date that chat templates see."""
        prompt = self.recipe.prompt
        return prompt.model_copy(update={"date": prompt.date or self.date or None})

    @property
    def data(self) -> Path:
        """The data directory."""
        return Path(self.recipe.data)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        enabled: whether the recipe asks for it.
        inputs: everything that its result depends on, as plain values; large inputs by their hash.
        perform: does the work in the run's folder and resumes a killed run; takes the hash of the inputs and
            returns the outputs that later stages depend on, as plain values.
        check: raises an InputError for every problem that can be found before any stage starts.
        keeps: patterns of files in the stage's folder that took long to compute. If they were computed on other
            inputs, the stage is refused instead of run again in their place.
        shared: whether all processes that torchrun started perform it together; only the main process's return
            value is used. The other stages run in the main process while the rest wait.
    """

    name: str
    enabled: Callable[[Recipe], bool]
    inputs: Callable[[Run], dict[str, Any]]
    perform: Callable[[Run, str], dict[str, Any]]
    check: Callable[[Run], None] = lambda run: None
    keeps: tuple[str, ...] = ()
    shared: bool = False


_HASH_FILE = "input_hash"

Log = Callable[[str, str], None]
"""Called with the name of a stage and a message for the user."""


def run_pipeline(stages: Sequence[Stage], run: Run, until: str, log: Log) -> None:
    """Run the stages in order up to and including `until`.

    A stage is skipped if the manifest has it with the same inputs. Only one command at a time may use a run
    directory. The main process decides what runs and writes the manifest.

    Raises:
        InputError: another command is using the folder, or a stage cannot be performed.
    """
    with process_group():
        if not is_main_process():
            _follow(stages, run)
            return
        with locked(run.folder):
            manifest = begin_manifest(run.folder)
            run = replace(run, date=manifest["date"])
            send(run.date)
            last = next(number for number, stage in enumerate(stages) if stage.name == until)
            enabled = [stage for stage in stages[: last + 1] if stage.enabled(run.recipe)]
            for stage in enabled:
                if stage.name not in manifest["stages"]:
                    stage.check(run)
            for stage in stages[: last + 1]:
                if stage in enabled:
                    _run_stage(stage, run, manifest, log)
                else:
                    log(stage.name, "not in the recipe")
        send(None)


def _follow(stages: Sequence[Stage], run: Run) -> None:
    """Perform the shared stages that the main process announces."""
    run = replace(run, date=receive())
    while (message := receive()) is not None:
        name, input_hash, outputs = message
        run.outputs.update(outputs)
        next(stage for stage in stages if stage.name == name).perform(run, input_hash)


def _run_stage(stage: Stage, run: Run, manifest: Manifest, log: Log) -> None:
    inputs = stage.inputs(run)
    input_hash = hash_text(to_json(inputs))
    entry = manifest["stages"].get(stage.name)
    if entry and entry["input_hash"] == input_hash and _is_complete(run.folder, entry["outputs"]):
        log(stage.name, "unchanged")
    else:
        if stage.keeps:
            _require_same_work(stage, run.folder, input_hash, inputs, manifest)
        # The stage may remove its old outputs; after a kill the manifest must not list them.
        manifest["stages"].pop(stage.name, None)
        manifest.setdefault("started", {})[stage.name] = inputs
        write_manifest(run.folder, manifest)
        start = time.monotonic()
        if stage.shared:
            send((stage.name, input_hash, run.outputs))
        outputs = stage.perform(run, input_hash)
        seconds = round(time.monotonic() - start, 1)
        entry = {
            "input_hash": input_hash,
            "inputs": inputs,
            # The whole recipe: settings that only change speed and memory are not among the inputs.
            "recipe": run.recipe.model_dump(),
            "outputs": outputs,
            "seconds": seconds,
            "versions": versions(),
            "hardware": hardware(run.precision.device),
        }
        manifest["stages"][stage.name] = entry
        del manifest["started"][stage.name]
        write_manifest(run.folder, manifest)
        log(stage.name, f"done in {seconds:.0f} s{_numbers_of(outputs)}")
    run.outputs[stage.name] = entry["outputs"]


def _require_same_work(
    stage: Stage, folder: Path, input_hash: str, inputs: dict[str, Any], manifest: Manifest
) -> None:
    """Refuse to replace what took long to compute and was computed on other inputs."""
    work = folder / stage.name
    if _input_hash_of(work) == input_hash or not any(any(work.glob(pattern)) for pattern in stage.keeps):
        return
    entry = manifest["stages"].get(stage.name)
    old = entry["inputs"] if entry else manifest.get("started", {}).get(stage.name, {})
    new = json.loads(to_json(inputs))  # with the types that the manifest has
    differing = ", ".join(_differing(old, new)[:MOST_NAMED]) or "the manifest does not say which"
    raise InputError(
        f"{work} was trained on other inputs ({differing}); "
        "choose another --output, or remove this folder to train again"
    )


def _differing(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of the values that differ, with the values if they are short."""
    found = []
    for name in old | new:
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differing(before, after, f"{prefix}{name}.")
        elif before != after:
            change = f"{before} → {after}"
            found.append(f"{prefix}{name}" + f" {change}" * (len(change) < 30))
    return found


def _numbers_of(outputs: dict[str, Any]) -> str:
    """The counts and the loss among the outputs of a stage, for the log."""
    numbers = [
        f"{name.replace('_', ' ')} {value:,}" if isinstance(value, int) else f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in outputs.items()
        if isinstance(value, int | float)
    ]
    return f": {', '.join(numbers)}" if numbers else ""


def versions() -> dict[str, str]:
    """Versions of this package and of the packages that the numbers depend on."""
    names = ("jmedllm", "torch", "transformers", "tokenizers", "peft", "cydifflib")
    return {name: version(name) for name in names}


def _is_complete(folder: Path, outputs: dict[str, Any]) -> bool:
    return all((folder / name).exists() for name in outputs.get("files", ()))


def files_in(run: Run, folder: str) -> list[str]:
    """All files in a folder of the run, for a stage's outputs: the stage runs again if one of them is missing."""
    return sorted(p.relative_to(run.folder).as_posix() for p in (run.folder / folder).rglob("*") if p.is_file())


def own_folder(folder: Path, input_hash: str) -> Path:
    """A folder for work on these inputs. The main process empties it if it has work on other inputs.

    Raises:
        InputError: it has files that jmedllm did not write, or is not writable.
    """
    if is_main_process() and _input_hash_of(folder) != input_hash:
        with atomic_folder(folder, _HASH_FILE) as empty:
            write_atomic(empty / _HASH_FILE, input_hash)
    return folder


def _input_hash_of(folder: Path) -> str | None:
    file = folder / _HASH_FILE
    return file.read_text(encoding="utf-8") if file.is_file() else None
