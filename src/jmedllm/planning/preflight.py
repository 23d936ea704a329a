"""Check memory and disk for a training stage before anything is loaded."""

from dataclasses import replace
from pathlib import Path

import psutil

from jmedllm.errors import InputError
from jmedllm.planning.counts import PlannedBase
from jmedllm.planning.machine import Machine, gib
from jmedllm.planning.needs import Needs, least_needs, plan_stage
from jmedllm.planning.plan import TrainingStage
from jmedllm.planning.printing import sizes
from jmedllm.progress import notice
from jmedllm.training.preflight import folder_bytes, require_free

_MUCH = 2
"""A notice on activations is printed if everything else needs at least one part in `_MUCH` of the memory."""


def require_machine(stage: TrainingStage, base: PlannedBase, machine: Machine, folder: Path) -> bool:
    """Check that memory and disk suffice for a stage, before anything is loaded.

    If the device shares the host's memory, the memory must suffice for the stage as configured, because the operating
    system kills a process that needs more. A GPU must have enough for the minimum, independent of the batch size:
    beyond it, running out of memory is an error that names the settings.

    Args:
        stage: stage to check.
        base: the trained model.
        machine: hardware of the run.
        folder: the run directory; existing files of the stage count as free space.

    Returns:
        Whether the check was possible. If the model's sizes are unknown, a notice is printed.

    Raises:
        InputError: memory or disk space is insufficient; the message has the numbers.
    """
    try:
        least = least_needs(stage.settings, base, machine)
    except InputError as error:
        notice(f"{stage.name}: memory and disk were not checked: {error}")
        return False
    _require_memory(stage, least, base, machine)
    size = least.disk - folder_bytes(folder / stage.name)
    parts = " and ".join(part.name for part in least.parts if part.disk)
    require_free(folder, size, f"{stage.name} ({parts})")
    return True


def _require_memory(stage: TrainingStage, least: Needs, base: PlannedBase, machine: Machine) -> None:
    _require_fit(stage.name, least, " without any activations", machine)
    if machine.is_shared:
        try:
            planned = plan_stage(stage.name, stage.settings, stage.block_size, base, machine)
        except InputError as error:
            notice(f"{stage.name}: the memory of activations was not checked: {error}")
            return
        _require_fit(stage.name, planned, "", machine)
    elif not Needs(least.parts * _MUCH).fits(machine):
        notice(
            f"{stage.name}: needs {sizes(least, machine)} of the {_memory(machine)} of this machine, and more for "
            "activations; see jmedllm plan"
        )


def _require_fit(name: str, needs: Needs, without: str, machine: Machine) -> None:
    if not needs.fits(replace(machine, ram=machine.ram + psutil.swap_memory().total)):
        raise InputError(
            f"{name}: needs {sizes(needs, machine)}{without}, this machine has {_memory(machine)}; set memory: auto, "
            "or see jmedllm plan for what fits"
        )


def _memory(machine: Machine) -> str:
    if machine.is_shared:
        return gib(machine.ram)
    return f"{gib(machine.gpu.memory)} on the GPU and {gib(machine.ram)} on the host"
