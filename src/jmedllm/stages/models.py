"""Checks of the base model that several stages share, and what stage 1 starts from."""

from pathlib import Path

from jmedllm.stages.stage import Run, base_folder


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
    """What stage 1 starts from: the base, with new tokens where the recipe asks for them."""
    corpus = run.recipe.corpus
    return run.folder / "corpus" / "extended" if corpus and corpus.vocabulary else base_folder(run)
