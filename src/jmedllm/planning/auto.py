"""`memory: auto`: the first way of training that fits this machine, chosen once for a run and then kept."""

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError
from jmedllm.files import hash_text, read_json, to_json, write_atomic
from jmedllm.planning.machine import Machine, gib, this_machine
from jmedllm.planning.needs import CUDA, Base
from jmedllm.planning.plan import Option, TrainingStage, base_of, options_of, stages_of
from jmedllm.planning.ways import IN_BACKWARD, is_quantized
from jmedllm.precision import Precision
from jmedllm.processes import is_first
from jmedllm.recipe import STAGES, Recipe, Stage
from jmedllm.training.metrics import peak_memory
from jmedllm.training.optimization import Optimization, require_possible

NAME = "memory.json"
"""In the run directory: what was chosen, by stage."""

Choice = dict[str, Any]
"""As JSON. asked: hash of the settings as written; settings: what is trained with; changes; machine; planned:
bytes of tensors on each GPU, and of the host."""

Tell = Callable[[str], None]
"""Called with a line for the user."""


def fit(recipe: Recipe, precision: Precision, folder: Path, until: Stage, tell: Tell) -> Recipe:
    """The recipe with each training stage as it fits this machine, or as it is where it does not ask for that.

    What was chosen before for the same settings stays, on whatever machine the run goes on. Nothing is chosen that
    changes the batch or the clipping.

    Args:
        recipe: asks for it by `memory: auto`.
        precision: device and number format of the run.
        folder: the run directory.
        until: last stage that is carried out.
        tell: called once for each stage.

    Raises:
        InputError: a stage does not fit in any way, or the base's config is not known.
    """
    if recipe.memory != "auto":
        return recipe
    machine = this_machine(precision.device)
    base = replace(base_of(recipe), dtype=precision.dtype)
    choices, chosen = _read(folder), {}
    for stage in stages_of(recipe):
        if STAGES.index(stage.name) > STAGES.index(until):
            continue
        asked = hash_text(to_json([stage.settings.model_dump(), stage.block_size]))
        if choices.get(stage.name, {}).get("asked") != asked:
            choices[stage.name] = _choose(stage, base, machine, precision) | {"asked": asked}
        if is_first():
            tell(_in_words(stage.name, choices[stage.name]))
        chosen[stage.name] = type(stage.settings).model_validate(choices[stage.name]["settings"])
    if is_first():
        write_atomic(folder / NAME, to_json(choices, indent=2) + "\n")
    return recipe.model_copy(update=chosen)


def memory_of(recipe: Recipe, folder: Path, stage: Stage, device: torch.device) -> dict[str, Any]:
    """What a stage's manifest entry keeps of a choice: planned beside measured; nothing where none was made.

    Measured are tensors on this GPU, and all of this process on the host, since the training began.
    """
    if recipe.memory != "auto":
        return {}
    choice = _read(folder)[stage]
    on_gpu = peak_memory(device) if device.type == "cuda" else 0
    measured = {"gpu": on_gpu, "host": peak_memory(torch.device("cpu"))}
    return {"memory": {key: choice[key] for key in ("changes", "machine", "planned")} | {"measured": measured}}


def _choose(stage: TrainingStage, base: Base, machine: Machine, precision: Precision) -> Choice:
    dearer: list[Option] = []
    for option in options_of(stage, base, machine):
        if not _is_possible(option.settings, precision):
            continue
        if option.planned.fits(machine) and IN_BACKWARD not in option.changes:
            return _as_choice(option, machine)
        dearer.append(option)
    raise InputError(_nothing_fits(stage, dearer, machine))


def _is_possible(settings: Optimization, precision: Precision) -> bool:
    """Whether the libraries are there."""
    try:
        require_possible(settings, precision.name)
    except InputError:
        return False
    return not is_quantized(settings) or find_spec("bitsandbytes") is not None


def _as_choice(option: Option, machine: Machine) -> Choice:
    planned = option.planned
    tensors = sum(part.gpu for part in planned.parts if part.name != CUDA)
    sizes = {"gpu": tensors, "host": planned.host}
    if machine.is_shared:
        sizes = {"gpu": 0, "host": planned.gpu + planned.host}
    return {
        "settings": option.settings.model_dump(mode="json"),
        "changes": [change.setting for change in option.changes],
        "machine": f"{machine.gpu.name}, {gib(machine.gpu.memory)}; host {gib(machine.ram)}",
        "planned": sizes,
    }


def _nothing_fits(stage: TrainingStage, options: list[Option], machine: Machine) -> str:
    told = f"memory: auto: {stage.name} does not fit {machine.gpu.name} with {gib(machine.gpu.memory)}"
    told += "" if machine.is_shared else f" and {gib(machine.ram)} on the host"
    if not options:
        return f"{told}: no way of training is possible here; see jmedllm plan"
    least = min(options, key=lambda option: (option.planned.gpu, option.planned.host)).planned
    smallest = f"the smallest machine has {gib(least.gpu)} on the GPU and {gib(least.host)} on the host"
    for option in options:
        if option.planned.fits(machine):
            return f"{told}; {IN_BACKWARD.setting} would, but {IN_BACKWARD.cost}: write it down if you want that"
    return f"{told}; {smallest}"


def _in_words(stage: str, choice: Choice) -> str:
    changes = ", ".join(choice["changes"]) or "as written"
    planned = choice["planned"]
    gpu = f"{gib(planned['gpu'])} on the GPU, " if planned["gpu"] else ""
    sizes = f"{gpu}{gib(planned['host'])} on the host"
    return f"{stage:<7} memory: {changes} ({sizes}, as planned for {choice['machine']})"


def _read(folder: Path) -> dict[str, Choice]:
    file = folder / NAME
    found: dict[str, Choice] = read_json(file) if file.is_file() else {}
    if not isinstance(found, dict) or not all("asked" in each for each in found.values()):
        raise InputError(f"{file} is no file of jmedllm's; choose another --output")
    return found
