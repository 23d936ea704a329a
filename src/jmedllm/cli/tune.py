"""The command `jmedllm tune`."""

from jmedllm.cli.options import Control, RecipeFile
from jmedllm.cli.run import PreviewExample, RunFolder, RunOptions, Seed, require_section, run_recipe


def tune(
    recipe: RecipeFile,
    output: RunFolder = None,
    control: Control = None,
    seed: Seed = None,
    preview_example: PreviewExample = False,
) -> None:
    """Run a recipe up to its second stage, mpeft (adapter tuning)."""
    require_section(recipe, "mpeft")
    run_recipe(RunOptions(recipe, output, "mpeft", control, seed), preview_example=preview_example)
