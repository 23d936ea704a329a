"""Stage merge: the adapter folded into what it was trained on."""

from shutil import rmtree
from typing import Any

from jmedllm.deploy.merge import merge
from jmedllm.pipeline import Run, Stage, files_in, own_folder
from jmedllm.recipe import Recipe
from jmedllm.stages.models import tuned_fingerprint, tuned_folder


def _inputs(run: Run) -> dict[str, Any]:
    return {
        "model": tuned_fingerprint(run),
        "adapter": run.outputs["mpeft"]["adapter"],
        "precision": run.precision.name,
    }


def _perform(run: Run, input_hash: str) -> dict[str, Any]:
    folder = own_folder(run.folder / "merge", input_hash)
    rmtree(folder / "model", ignore_errors=True)  # one that has lost a file since
    merged = merge(
        tuned_folder(run),
        run.folder / "mpeft" / "adapter",
        folder / "model",
        run.precision,
        accepted=run.recipe.merge.accept_divergence,
    )
    return {
        "model": merged.fingerprint,
        "divergence": merged.divergence.nats,
        "files": files_in(run, "merge/model"),
    }


def _enabled(recipe: Recipe) -> bool:
    return recipe.mpeft is not None


STAGE = Stage("merge", _enabled, _inputs, _perform)
