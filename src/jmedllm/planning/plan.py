"""Plan a recipe: each training stage as configured, the changes that make it fit, and the smallest machine."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from jmedllm.errors import InputError
from jmedllm.files import to_json
from jmedllm.models.weights.quantization import (
    quantization_in,
    quantization_of,
    require_method,
    require_trainable_weights,
    without_quantization,
)
from jmedllm.planning.counts import PlannedBase, shape_of_base
from jmedllm.planning.machine import Machine
from jmedllm.planning.needs import StagePlan, least_needs, plan_stage
from jmedllm.planning.shape import config_of
from jmedllm.planning.techniques import Techniques, apply_techniques, refusal, techniques_of
from jmedllm.recipe import AdapterTrainingConfig, Recipe
from jmedllm.training.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class TrainingStage:
    """A training stage to plan.

    Attributes:
        block_size: tokens per packed row.
        rows: number of packed rows; None if the data are not packed yet.
        benchmarks: whether validation includes benchmarks.
    """

    name: str
    settings: TrainingConfig
    block_size: int
    rows: int | None
    benchmarks: bool


@dataclass(frozen=True, slots=True)
class Option:
    """A stage with changed settings.

    Attributes:
        changes: changes that the recipe does not have yet; empty for the recipe as configured.
        settings: settings with these changes.
    """

    changes: Techniques
    settings: TrainingConfig
    planned: StagePlan


@dataclass(frozen=True, slots=True)
class Advice:
    """Plan of a stage.

    Attributes:
        planned: needs of the stage as configured.
        refusal: why a run as configured would not start on this machine, whatever its memory.
        chosen: the first supported option that fits, starting with the recipe as configured; None if none fits.
        smallest: the supported option with the least GPU memory; None if no option is supported.
    """

    planned: StagePlan
    refusal: str | None
    chosen: Option | None
    smallest: Option | None

    @property
    def changes(self) -> Techniques:
        """Changes that make the stage fit."""
        return self.chosen.changes if self.chosen else ()


def plan(recipe: Recipe, stages: Sequence[TrainingStage], machine: Machine) -> list[Advice]:
    """Plan the training stages of a recipe from the base's config.

    Raises:
        InputError: the base is randomly initialized, its config is not found or lacks a size, its weights are
            quantized, or there is no training stage.
    """
    base = base_of(recipe)
    if not stages:
        raise InputError("the recipe trains nothing; add the section of a stage that trains, such as mpeft")
    quantization = quantization_in(json.loads(base.config))
    for stage in stages:
        require_trainable_weights(quantization, base.name, adapter=isinstance(stage.settings, AdapterTrainingConfig))
    return [advise(stage, base, machine) for stage in stages]


def base_of(recipe: Recipe) -> PlannedBase:
    """Return the base of a recipe from its config alone.

    Raises:
        InputError: the base is randomly initialized, its config is not found, or it cannot be dequantized.
    """
    base = recipe.base
    if base.path is None:
        raise InputError("base.random_init builds a small model from the corpus; there is nothing to plan")
    dtype = torch.float32 if recipe.precision == "float32" else torch.bfloat16
    values = config_of(base.path, base.revision, ignore_adapter=base.ignore_adapter)
    if base.dequantize:
        # A config.json may have lost what its tensors show.
        found = quantization_in(values) or (quantization_of(Path(base.path)) if Path(base.path).is_dir() else None)
        require_method(found, f"base {base.path}")
        values = without_quantization(values)
    return PlannedBase(base.path, to_json(values), dtype, is_dequantized=base.dequantize)


def advise(stage: TrainingStage, base: PlannedBase, machine: Machine) -> Advice:
    """Plan a stage as configured and with all supported options."""
    options = list(options_of(stage, base, machine))
    first = plan_stage(stage.name, stage.settings, stage.block_size, base, machine, rows=stage.rows)
    return Advice(
        first,
        _refusal(stage, stage.settings, base, machine),
        next((option for option in options if option.planned.fits(machine)), None),
        smallest(options, machine),
    )


def smallest(options: Iterable[Option], machine: Machine) -> Option | None:
    """Return the option that needs the least GPU memory, or total memory if both are shared."""
    return min(options, key=lambda option: _size(option.planned, machine), default=None)


def options_of(stage: TrainingStage, base: PlannedBase, machine: Machine) -> Iterator[Option]:
    """Yield the stage as configured, then each supported option, in order of cost."""
    for changes, settings in _supported(stage, base, machine):
        planned = plan_stage(stage.name, settings, stage.block_size, base, machine, rows=stage.rows)
        yield Option(changes, settings, planned)


def could_fit(stage: TrainingStage, base: PlannedBase, machine: Machine) -> bool:
    """Return whether an option could fit a machine without its activations, which takes no tracing."""
    return any(least_needs(settings, base, machine).fits(machine) for _, settings in _supported(stage, base, machine))


def _supported(
    stage: TrainingStage, base: PlannedBase, machine: Machine
) -> Iterator[tuple[Techniques, TrainingConfig]]:
    tried: dict[Techniques, TrainingConfig] = {(): stage.settings}
    for way in techniques_of(stage.settings):
        if found := apply_techniques(stage.settings, way):
            tried.setdefault(found[1], found[0])
    for changes, settings in tried.items():
        if _refusal(stage, settings, base, machine) is None:
            yield changes, settings


def _refusal(stage: TrainingStage, settings: TrainingConfig, base: PlannedBase, machine: Machine) -> str | None:
    return refusal(settings, base.precision.name, shape_of_base(base), machine, benchmarks=stage.benchmarks)


def _size(planned: StagePlan, machine: Machine) -> tuple[int, int]:
    return (planned.gpu + planned.host, 0) if machine.is_shared else (planned.gpu, planned.host)


def packed_rows(folder: Path | None, block_size: int) -> int | None:
    """Return the number of rows that the corpus stage has packed in a run directory; None if there are none of this
    size."""
    if folder is None:
        return None
    file = folder / "corpus" / "blocks" / "ids.npy"
    if not file.is_file():
        return None
    try:
        rows, size = np.load(file, mmap_mode="r").shape
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{file}: contains no packed blocks: {error}; remove {folder / 'corpus'} and pack them again"
        ) from error
    return int(rows) if size == block_size else None
