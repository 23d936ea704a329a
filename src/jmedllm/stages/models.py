"""Return the directory of the model that stage 1 starts from."""

from pathlib import Path

from jmedllm.stages.stage import Run, base_folder


def start_folder(run: Run) -> Path:
    """Return what stage 1 starts from: the base, with new tokens where the recipe asks for them."""
    corpus = run.recipe.corpus
    return run.folder / "corpus" / "extended" if corpus and corpus.vocabulary else base_folder(run)
