"""Stage merge: the adapter folded into what it was trained on."""

from typing import Any

from jmedllm.deploy.merge import merge
from jmedllm.recipe import Recipe
from jmedllm.run import Run, Step, own_folder
from jmedllm.stages.models import tuned_fingerprint, tuned_folder


def _inputs(run: Run) -> dict[str, Any]:
    return {"model": tuned_fingerprint(run), "adapter": run.made["mpeft"]["adapter"]}


def _perform(run: Run, identity: str) -> dict[str, Any]:
    folder = own_folder(run.folder / "merge", identity)
    merged = merge(tuned_folder(run), run.folder / "mpeft" / "adapter", folder / "model")
    return {"model": merged, "files": ["merge/model"]}


def _wanted(recipe: Recipe) -> bool:
    return recipe.mpeft is not None


STEP = Step("merge", _wanted, _inputs, _perform)
