"""The command `jmedllm pretrain`."""

from jmedllm.cli.options import Control, RecipeFile
from jmedllm.cli.run import PreviewExample, RunFolder, RunOptions, Seed, require_section, run_recipe


def pretrain(
    recipe: RecipeFile,
    output: RunFolder = None,
    control: Control = None,
    seed: Seed = None,
    preview_example: PreviewExample = False,
) -> None:
    """Run a recipe up to its first stage, mfpt (continued pretraining)."""
    require_section(recipe, "mfpt")
    run_recipe(RunOptions(recipe, output, "mfpt", control, seed), preview_example=preview_example)
