"""Memory and disk of the stage deploy, which exports and proves files."""

from jmedllm.deploy.delivery import BITS, delivery_bytes
from jmedllm.planning.counts import PlannedBase, shape_of_base
from jmedllm.planning.needs import PYTHON, WITHOUT_CUDA, Component, Needs
from jmedllm.recipe import Recipe


def plan_deploy(recipe: Recipe, base: PlannedBase) -> Needs | None:
    """Estimate what exporting and proving files needs; None if the recipe has no section for it."""
    if recipe.deploy is None:
        return None
    parameters = shape_of_base(base).total
    exact = parameters * int(BITS["f32"]) // 8
    disk = delivery_bytes(parameters, recipe.deploy.types)
    return Needs(
        (
            Component("files", disk=disk - exact),
            Component("the model in float32, for the proof", host=exact, disk=exact),
            Component("the same in llama.cpp", host=exact),
            Component(PYTHON, host=WITHOUT_CUDA),
        )
    )
