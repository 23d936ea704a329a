"""The command `jmedllm pretrain`."""

from jmedllm.cli.options import Control, RecipeFile
from jmedllm.cli.run import RunFolder, RunOptions, Seed, ShowExample, require_section, run_recipe


def pretrain(
    recipe: RecipeFile,
    output: RunFolder = None,
    control: Control = None,
    seed: Seed = None,
    show_example: ShowExample = False,
) -> None:
    """Run a recipe up to its first stage, mfpt (continued pretraining)."""
    require_section(recipe, "mfpt")
    run_recipe(RunOptions(recipe, output, "mfpt", control, seed), show_example=show_example)
