"""The command `jmedllm tune`."""

from jmedllm.cli.options import Control, RecipeFile
from jmedllm.cli.run import RunFolder, RunOptions, Seed, ShowExample, require_section, run_recipe


def tune(
    recipe: RecipeFile,
    output: RunFolder = None,
    control: Control = None,
    seed: Seed = None,
    show_example: ShowExample = False,
) -> None:
    """Run a recipe up to its second stage, mpeft (adapter tuning)."""
    require_section(recipe, "mpeft")
    run_recipe(RunOptions(recipe, output, "mpeft", control, seed), show_example=show_example)
