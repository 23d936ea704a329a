"""The registry of stages. Add a stage by a file here and a line below, or from another package by an entry point."""

from pathlib import Path

from jmedllm.planning.plan import TrainingStage
from jmedllm.plugins import plugins
from jmedllm.recipe import Recipe
from jmedllm.stages.canary import CANARY
from jmedllm.stages.corpus import CORPUS
from jmedllm.stages.deploy import DEPLOY
from jmedllm.stages.dequantize import DEQUANTIZE
from jmedllm.stages.eval import EVAL
from jmedllm.stages.memorization import MEMORIZATION
from jmedllm.stages.merge import MERGE
from jmedllm.stages.mfpt import MFPT
from jmedllm.stages.mpeft import MPEFT
from jmedllm.stages.report import REPORT
from jmedllm.stages.stage import Stage, in_order

STAGES: dict[str, Stage] = {
    stage.name: stage for stage in (DEQUANTIZE, CANARY, CORPUS, MFPT, MPEFT, MERGE, MEMORIZATION, EVAL, DEPLOY, REPORT)
}
"""All stages by name, in the order in which they run."""

STAGES = {stage.name: stage for stage in in_order(list(STAGES.values()), plugins("stages", STAGES, Stage).values())}


def training_stages(recipe: Recipe, folder: Path | None = None, until: str | None = None) -> list[TrainingStage]:
    """Return the training stages of a recipe up to and including `until`, for the planner.

    Args:
        recipe: the recipe.
        folder: the run directory, whose packed blocks determine the number of rows.
        until: name of the last stage.

    Raises:
        InputError: the packed blocks cannot be read.
    """
    names = list(STAGES)
    last = names.index(until) if until else len(names)
    return [
        stage.training(recipe, folder)
        for stage in list(STAGES.values())[: last + 1]
        if stage.training and stage.enabled(recipe)
    ]


def unplanned(recipe: Recipe) -> list[str]:
    """Return the names of stages with a recipe section but without an estimate by the planner."""
    return [stage.name for stage in STAGES.values() if stage.after and stage.enabled(recipe) and not stage.training]
