"""`memory: auto`: choose the first combination of memory settings that fits this machine, once per run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, TypeAdapter, ValidationError

from jmedllm.errors import InputError
from jmedllm.files import hash_text, read_json, to_json, write_atomic
from jmedllm.planning.counts import PlannedBase
from jmedllm.planning.machine import Gpu, Machine, gib, this_machine
from jmedllm.planning.needs import CUDA
from jmedllm.planning.plan import Option, TrainingStage, advise, base_of, could_fit, options_of, smallest
from jmedllm.planning.printing import sizes
from jmedllm.planning.techniques import BACKWARD_OPTIMIZER, is_quantized
from jmedllm.precision import Precision
from jmedllm.processes import broadcast_from_rank0, is_main_process
from jmedllm.recipe import Recipe
from jmedllm.training.config import TrainingConfig, require_possible
from jmedllm.training.metrics import peak_memory

NAME = "memory.json"
"""File in the run directory with the chosen settings of each stage."""

BESIDE = {"save_steps", "early_stopping", "tensorboard"}
"""Settings that affect neither memory nor training; changing them keeps the earlier choice."""


class Sizes(BaseModel, frozen=True, strict=True):
    """Bytes of tensors on each GPU, and of host memory."""

    gpu: int
    host: int


class Choice(BaseModel, frozen=True, strict=True):
    """Chosen settings of a stage.

    Attributes:
        asked: hash of the settings as configured.
        settings: settings that training uses.
        changes: changed settings, as in a recipe.
        machine: description of the machine.
        planned: estimated memory.
    """

    asked: str
    settings: dict[str, Any]
    changes: list[str]
    machine: str
    planned: Sizes


def fit(
    recipe: Recipe, stages: Sequence[TrainingStage], precision: Precision, folder: Path, log: Callable[[str], None]
) -> Recipe:
    """Return the recipe with training settings that fit this machine, if it has `memory: auto`; else unchanged.

    An earlier choice for the same settings is kept, even if the run resumes on another machine. The batch size and
    gradient clipping are never changed. The main process chooses for all processes.

    Args:
        recipe: the recipe.
        stages: training stages that will run.
        precision: device and dtype of the run.
        folder: the run directory.
        log: called with one line for each stage.

    Raises:
        InputError: no combination of settings fits a stage, or the base's config is not found.
    """
    if recipe.memory != "auto":
        return recipe
    choices = broadcast_from_rank0(lambda: _choices(recipe, stages, precision, folder))
    if is_main_process():
        for stage in stages:
            log(_in_words(stage.name, choices[stage.name]))
    return with_choices(recipe, stages, choices)


def with_choices(recipe: Recipe, stages: Sequence[TrainingStage], choices: Mapping[str, Choice]) -> Recipe:
    """Return the recipe with the chosen training settings."""
    return recipe.model_copy(update={stage.name: _as_chosen(stage, choices[stage.name]) for stage in stages})


def memory_of(recipe: Recipe, folder: Path, stage: str, device: torch.device) -> dict[str, Any] | None:
    """Return the planned and the measured memory of a stage for its manifest entry; None without `memory: auto`.

    Measured are the tensors on this GPU, and the whole process on the host, since training started.
    """
    if recipe.memory != "auto":
        return None
    choice = _read(folder)[stage]
    on_gpu = peak_memory(device) if device.type == "cuda" else 0
    measured = {"gpu": on_gpu, "host": peak_memory(torch.device("cpu"))}
    return choice.model_dump(include={"changes", "machine", "planned"}) | {"measured": measured}


def _choices(recipe: Recipe, stages: Sequence[TrainingStage], precision: Precision, folder: Path) -> dict[str, Choice]:
    """Return the earlier or a new choice for each stage, and write them to the run directory."""
    choices = choices_for(recipe, stages, precision, folder)
    written = {name: choice.model_dump() for name, choice in choices.items()}
    write_atomic(folder / NAME, to_json(written, indent=2) + "\n")
    return choices


def choices_for(
    recipe: Recipe, stages: Sequence[TrainingStage], precision: Precision, folder: Path
) -> dict[str, Choice]:
    """Return the choices of `fit` without writing them.

    Raises:
        InputError: see `fit`.
    """
    machine = this_machine(precision.device)
    base = base_of(recipe)
    choices = _read(folder)
    for stage in stages:
        asked = hash_text(to_json([stage.settings.model_dump(exclude=BESIDE), stage.block_size]))
        if stage.name not in choices or choices[stage.name].asked != asked:
            try:
                option = choose(stage, base, machine, precision)
            except InputError as error:
                raise InputError(f"memory: auto: {error}") from error
            choices[stage.name] = _as_choice(option, machine, asked)
        try:
            _as_chosen(stage, choices[stage.name])
        except ValidationError as error:
            raise _no_choices(folder) from error
    return choices


def require_room(recipe: Recipe, stages: Sequence[TrainingStage], precision: Precision) -> None:
    """Check that each stage could fit this machine without its activations: quickly, because it traces no step.

    Raises:
        InputError: no combination of settings of a stage could fit.
    """
    machine, base = this_machine(precision.device), replace(base_of(recipe), dtype=precision.dtype)
    for stage in stages:
        if not could_fit(stage, base, machine):
            raise InputError(
                f"memory: auto: {stage.name} does not fit {machine.gpu.name} with {gib(machine.gpu.memory)}, even "
                "without activations; jmedllm plan prints the machines that it fits"
            )


def _as_chosen(stage: TrainingStage, choice: Choice) -> TrainingConfig:
    beside = stage.settings.model_dump(mode="json", include=BESIDE)
    return type(stage.settings).model_validate(choice.settings | beside)


def choose(stage: TrainingStage, base: PlannedBase, machine: Machine, precision: Precision) -> Option:
    """Return the first option of a stage that fits a machine without changing batch size or gradient clipping.

    Args:
        stage: the stage.
        base: base model of the recipe; its weights are computed with in the dtype of `precision`.
        machine: machine to fit.
        precision: device and dtype of the run.

    Raises:
        InputError: no option fits.
    """
    dearer: list[Option] = []
    for option in options_of(stage, replace(base, dtype=precision.dtype), machine):
        if not _is_possible(option.settings, precision):
            continue
        if option.planned.fits(machine) and BACKWARD_OPTIMIZER not in option.changes:
            return option
        dearer.append(option)
    raise InputError(_nothing_fits(stage, dearer, base, machine))


def _is_possible(settings: TrainingConfig, precision: Precision) -> bool:
    """Return whether the required libraries are installed."""
    try:
        require_possible(settings, precision.name)
    except InputError:
        return False
    return not is_quantized(settings) or find_spec("bitsandbytes") is not None


def _as_choice(option: Option, machine: Machine, asked: str) -> Choice:
    planned = option.planned
    tensors = sum(part.gpu for part in planned.parts if part.name != CUDA)
    sizes = Sizes(gpu=tensors, host=planned.host)
    if machine.is_shared:
        sizes = Sizes(gpu=0, host=planned.gpu + planned.host)
    return Choice(
        asked=asked,
        settings=option.settings.model_dump(mode="json"),
        changes=[change.setting for change in option.changes],
        machine=f"{machine.gpu.name}, {gib(machine.gpu.memory)}; host {gib(machine.ram)}",
        planned=sizes,
    )


def _nothing_fits(stage: TrainingStage, options: list[Option], base: PlannedBase, machine: Machine) -> str:
    message = f"{stage.name} does not fit {machine.gpu.name} with {gib(machine.gpu.memory)}"
    message += "" if machine.is_shared else f" and {gib(machine.ram)} on the host"
    least = smallest(options, machine)
    if least is None:
        return f"{message}: no combination of settings is supported here; see jmedllm plan"
    for option in options:
        if option.planned.fits(machine):
            last = BACKWARD_OPTIMIZER
            return f"{message}; {last.setting} would fit, but {last.cost}: add it to the recipe if you accept that"
    if machine.is_shared:
        message += f": it needs at least {sizes(least.planned, machine)}"
    # The same estimate as in `jmedllm plan`: libraries that are missing here do not change the required machine.
    gpus = Machine(Gpu("a GPU", 0), 1, 1, 0) if machine.is_shared else machine
    planned = advise(stage, base, gpus).smallest or least
    return f"{message}; the smallest machine has {sizes(planned.planned, gpus)}, see jmedllm plan"


def _in_words(stage: str, choice: Choice) -> str:
    changes = ", ".join(choice.changes) or "as configured"
    gpu = f"{gib(choice.planned.gpu)} on the GPU, " if choice.planned.gpu else ""
    sizes = f"{gpu}{gib(choice.planned.host)} on the host"
    return f"{stage:<7} memory: {changes} ({sizes}, as planned for {choice.machine})"


def _read(folder: Path) -> dict[str, Choice]:
    file = folder / NAME
    found = read_json(file) if file.is_file() else {}
    try:
        return TypeAdapter(dict[str, Choice]).validate_python(found)
    except ValidationError as error:
        raise _no_choices(folder) from error


def _no_choices(folder: Path) -> InputError:
    return InputError(f"{folder / NAME} was not written by jmedllm; remove it, or choose another --output")
