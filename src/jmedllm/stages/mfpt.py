"""Stage mfpt: medical full-parameter training on the packed corpus."""

from typing import Any

from jmedllm.models.folder import fingerprint
from jmedllm.pipeline import Run, Stage, files_in, own_folder
from jmedllm.recipe import Recipe
from jmedllm.stages.models import (
    base_folder,
    numerics,
    require_trainable_here,
    require_usable_base,
    shaping,
    start_folder,
)
from jmedllm.stages.validation import open_validation, require_measurable, validation_inputs
from jmedllm.training.packing import load_blocks


def _inputs(run: Run) -> dict[str, Any]:
    corpus = run.outputs["corpus"]
    settings = shaping(run.recipe.mfpt) if run.recipe.mfpt else None
    return {
        "base": corpus["base"],
        "blocks": corpus["blocks"],
        "settings": settings,
        **validation_inputs(run),
        **numerics(run),
    }


def _check(run: Run) -> None:
    settings = run.recipe.mfpt
    assert settings is not None
    require_trainable_here(run, settings)
    require_usable_base(run)
    require_measurable(run, settings.early_stopping)
    if run.recipe.base.path:
        from jmedllm.deploy.preflight import report_unused_tensors, require_loadable

        report_unused_tensors(require_loadable(base_folder(run)), "mfpt")
    if settings.cpu_offload != "none" and run.recipe.base.path and run.recipe.corpus:
        from jmedllm.planning.machine import this_machine
        from jmedllm.planning.needs import require_host_memory
        from jmedllm.planning.plan import base_of

        machine = this_machine(run.precision.device)
        require_host_memory(settings, run.recipe.corpus.block_size, base_of(run.recipe), machine)


def _perform(run: Run, input_hash: str) -> dict[str, Any]:
    import torch

    from jmedllm.models.loading import load_network
    from jmedllm.models.save import save_model
    from jmedllm.models.tokenizer.load import load_tokenizer
    from jmedllm.planning.auto import memory_of
    from jmedllm.training.distributed import shard
    from jmedllm.training.loop import train
    from jmedllm.training.optim.weights import cast_weights
    from jmedllm.training.preflight import preview_example

    settings, base = run.recipe.mfpt, start_folder(run)
    assert settings is not None
    folder = own_folder(run.folder / "mfpt", input_hash)
    tokenizer = load_tokenizer(base)
    blocks = load_blocks(run.folder / "corpus" / "blocks")
    evaluation = open_validation(run, tokenizer, blocks.ids.shape[1])
    preview_example(tokenizer, blocks, "mfpt", text=run.shows_example)

    def load(device: torch.device) -> Any:
        home = torch.device("cpu") if settings.cpu_offload == "layers" else device
        return cast_weights(load_network(base, "auto", home), settings.weight_format)

    network, gather = shard(load, run.precision)
    trained = train(
        network,
        blocks,
        settings,
        run.precision,
        folder,
        seed=run.recipe.seed,
        input_hash=input_hash,
        title="mfpt",
        evaluation=evaluation,
    )
    memory = memory_of(run.recipe, run.folder, "mfpt", run.precision.device)
    whole = gather()
    if whole is None:
        return {}
    origin = {
        "base": str(base),
        "base_fingerprint": run.outputs["corpus"]["base"],
        "blocks": run.outputs["corpus"]["blocks"],
    }
    save_model(whole.to(whole.config.dtype), tokenizer, folder / "model", origin, base)
    return {
        "model": fingerprint(folder / "model"),
        "files": files_in(run, "mfpt/model"),
        **trained.summary(),
        **memory,
        **({"evaluated": evaluation.sizes()} if evaluation else {}),
        **_epochs(run, trained.steps * settings.batch_size / len(blocks)),
    }


def _epochs(run: Run, passes: float) -> dict[str, Any]:
    """How often each part of the corpus was read, where the recipe mixes any."""
    mixture = run.outputs["corpus"].get("mixture", {})
    epochs = {name: round(passes * part["read"] / part["bytes"], 3) for name, part in mixture.items()}
    return {"epochs": epochs} if epochs else {}


def _enabled(recipe: Recipe) -> bool:
    return recipe.mfpt is not None


STAGE = Stage("mfpt", _enabled, _inputs, _perform, _check, keeps=("checkpoints/step-*", "model"), shared=True)
