"""Stage mfpt: medical full-parameter training on the packed corpus."""

from typing import Any

from jmedllm.corpus.pack import load_blocks
from jmedllm.models.folder import fingerprint
from jmedllm.recipe import Recipe
from jmedllm.run import Run, Step, files_in, own_folder
from jmedllm.stages.models import base_folder, numerics, shaping


def _inputs(run: Run) -> dict[str, Any]:
    corpus = run.made["corpus"]
    settings = shaping(run.recipe.mfpt) if run.recipe.mfpt else None
    return {"base": corpus["base"], "blocks": corpus["blocks"], "settings": settings, **numerics(run)}


def _perform(run: Run, identity: str) -> dict[str, Any]:
    import torch

    from jmedllm.models.loading import load_network, load_tokenizer
    from jmedllm.models.save import save_model
    from jmedllm.training.loop import train

    settings, base = run.recipe.mfpt, base_folder(run)
    assert settings is not None
    folder = own_folder(run.folder / "mfpt", identity)
    network = load_network(base, "auto", run.precision.device)
    stored = network.dtype
    # A step at a usual learning rate is lost in bfloat16 weights, so they are trained in float32.
    trained = train(
        network.to(torch.float32),
        load_blocks(run.folder / "corpus" / "blocks.npz"),
        settings,
        run.precision,
        folder,
        seed=run.recipe.seed,
        identity=identity,
        title="mfpt",
    )
    origin = {
        "base": str(base),
        "base_fingerprint": run.made["corpus"]["base"],
        "blocks": run.made["corpus"]["blocks"],
    }
    save_model(network.to(stored), load_tokenizer(base), folder / "model", origin)
    return {"model": fingerprint(folder / "model"), "files": files_in(run, "mfpt/model"), **trained.summary()}


def _wanted(recipe: Recipe) -> bool:
    return recipe.mfpt is not None


STEP = Step("mfpt", _wanted, _inputs, _perform)
