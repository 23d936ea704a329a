"""Where the models of a run lie."""

from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.models.folder import fingerprint, require_unambiguous, resolve
from jmedllm.models.weights.quantization import require_plain_base
from jmedllm.pipeline import Run
from jmedllm.processes import rank
from jmedllm.recipe import CollectedResult, Recipe
from jmedllm.training.config import TrainingConfig, require_possible, require_shardable


def base_folder(run: Run) -> Path:
    """The model to adapt; one from scratch is built by the corpus stage."""
    base = run.recipe.base
    if base.path is None:
        return run.folder / "base"
    folder = resolve(base.path, revision=base.revision)
    require_unambiguous(folder, ignore_adapter=base.ignore_adapter)
    return folder


def require_usable_base(run: Run) -> None:
    """Check that the base can be loaded: its tokenizer, and its tensors by the headers of their files.

    Raises:
        InputError: it cannot.
    """
    from jmedllm.models.loading import load_structure
    from jmedllm.models.tokenizer.load import load_tokenizer

    if run.recipe.base.path is not None:
        load_tokenizer(base_folder(run))
        load_structure(base_folder(run))


def start_folder(run: Run) -> Path:
    """What stage 1 starts from: the base, or what the corpus stage has made of it with new tokens."""
    corpus = run.recipe.corpus
    return run.folder / "corpus" / "extended" if corpus and corpus.vocabulary else base_folder(run)


def tuned_folder(run: Run) -> Path:
    """What stage 2 starts from: the model after stage 1, if the recipe has one."""
    if not run.recipe.mfpt:
        return base_folder(run)
    folder = run.folder / "mfpt" / "model"
    require_unambiguous(folder)
    return folder


def folder_of(run: Run, sat: CollectedResult) -> Path:
    """The directory of the model that sits the exam under this name."""
    if sat == "mpeft":
        return run.folder / "merge" / "model"
    return tuned_folder(run) if sat == "mfpt" else base_folder(run)


def tuned_fingerprint(run: Run) -> str:
    """Fingerprint of what stage 2 starts from."""
    return run.outputs["mfpt"]["model"] if run.recipe.mfpt else fingerprint(base_folder(run))


def require_trainable_here(run: Run, settings: TrainingConfig, *, sharded: bool = True) -> None:
    """Check that the base can be trained, and that this machine and these processes can train as a stage asks.

    Raises:
        InputError: they cannot.
    """
    require_possible(settings, run.precision.name)
    if sharded and rank().world_size > 1:
        require_shardable(settings, exam=bool(run.recipe.validation and run.recipe.validation.benchmarks))
    if run.recipe.base.path is not None:
        from jmedllm.models.loading import read_config
        from jmedllm.training.trainable import require_trainable

        require_plain_base(base_folder(run))
        require_trainable(read_config(base_folder(run)), run.precision.device)


def check_base(recipe: Recipe) -> bool:
    """Check what can be known of the base without loading its weights, where it is on this machine.

    Returns:
        Whether it is.

    Raises:
        InputError: it cannot be used, an adapter lies beside it, or, where it is to be trained, its weights are
            quantized or could not be written again, or packed samples would see one another.
    """
    if recipe.base.path is None:
        return True
    try:
        base = resolve(recipe.base.path, revision=recipe.base.revision)
    except InputError:
        return False
    require_unambiguous(base, ignore_adapter=recipe.base.ignore_adapter)
    import torch

    from jmedllm.models.loading import load_structure, read_config
    from jmedllm.models.tokenizer.load import load_tokenizer

    is_trained = recipe.mfpt or recipe.mpeft
    if is_trained:
        require_plain_base(base)
    load_tokenizer(base)
    if not is_trained:
        load_structure(base)
        return True
    from jmedllm.deploy.preflight import report_frozen, report_unused_tensors, require_loadable, require_mergeable
    from jmedllm.training.trainable import require_trainable

    if recipe.mfpt:
        report_unused_tensors(require_loadable(base), "mfpt")
    if recipe.mpeft:
        is_rewritten = recipe.mfpt is not None
        report_frozen(require_mergeable(base, recipe.mpeft.adapter, is_rewritten=is_rewritten), "mpeft")
    require_trainable(read_config(base), torch.device("cpu"))  # once more before training, on its own device
    return True


_UNSHAPING = {
    "save_steps",
    "micro_batch_size",
    "activation_checkpointing",
    "cpu_offload",
    "offload_embedding",
    "tensorboard",
}


def shaping(settings: TrainingConfig) -> dict[str, Any]:
    """The settings that shape what is trained; the others change speed, memory and rounding.

    With dropout `micro_batch_size` also draws other masks.
    Lowering `micro_batch_size` when memory ran out must not throw the checkpoints away.
    """
    return settings.model_dump(exclude=_UNSHAPING)


def numerics(run: Run) -> dict[str, Any]:
    """What a training result depends on besides data, model and settings."""
    return {"seed": run.recipe.seed, "precision": run.precision.name}
