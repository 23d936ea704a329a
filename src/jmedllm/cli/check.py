"""`jmedllm run --check`: what a run would refuse, before it starts."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from jmedllm.cli.run import RunOptions
from jmedllm.errors import InputError

if TYPE_CHECKING:
    from jmedllm.precision import Precision
    from jmedllm.recipe import Recipe


def check_recipe(given: RunOptions) -> None:
    """Perform the checks of a recipe's stages and print a line for each."""
    from jmedllm.recipe_file import located

    with located(given.recipe):
        _check(given)


def _check(given: RunOptions) -> None:
    from jmedllm.pipeline import check_pipeline, compare_pipeline
    from jmedllm.stages import STAGES
    from jmedllm.stages.stage import Run

    loaded, folder, precision = given.load()
    checked = check_pipeline(STAGES.values(), Run(loaded, folder, precision, {}), given.until)
    is_here = all(each.is_complete for each in checked)
    loaded = _with_memory_settings(given, loaded, folder, precision, is_here=is_here)
    compared = compare_pipeline(STAGES.values(), Run(loaded, folder, precision, {}), given.until)
    for each in checked:
        typer.echo(f"{each.stage:<7} {'checked: ' if each.checks else ''}{', '.join(each.checks) or 'no checks'}")
    if compared:
        typer.echo(f"{folder} has an earlier run. A run in it does this:")
        for name, what in compared.items():
            typer.echo(f"{name:<7} {what}")
    typer.echo(f"{given.recipe}: valid" if is_here else f"{given.recipe}: {_without(loaded.base.path or '')}")


def _with_memory_settings(
    given: RunOptions, recipe: "Recipe", folder: Path, precision: "Precision", *, is_here: bool
) -> "Recipe":
    """Print what `memory: auto` chooses on this machine, and return the recipe with it.

    A base that is elsewhere may be trained elsewhere, so its need for a larger machine is only printed.

    Raises:
        InputError: the base is here, and no settings fit.
    """
    from jmedllm.planning.auto import choices_for, require_room, with_choices
    from jmedllm.stages import training_stages

    stages = training_stages(recipe, folder, given.until)
    if recipe.memory != "auto" or not stages:
        return recipe
    try:
        if not is_here:
            require_room(recipe, stages, precision)
        choices = choices_for(recipe, stages, precision, folder)
    except InputError as error:
        if is_here:
            raise
        typer.echo(f"on this machine: {error}")
        return recipe
    for name, choice in choices.items():
        typer.echo(f"{name:<7} memory: {', '.join(choice.changes) or 'as configured'}")
    return with_choices(recipe, stages, choices)


def _without(base: str) -> str:
    """Describe what a check without the base's files leaves out."""
    from jmedllm.planning.published import published_config

    found = f"valid as far as checked. Base {base} is not on this machine"
    published = published_config(base)
    if published is None:
        return f"{found}, so its tokenizer, chat template, tensors and sizes were not checked"
    return (
        f"{found}. Checked with its published config, which comes with jmedllm ({published.source}); not checked: "
        "tokenizer, chat template, tensors, lengths of examples and prompts, and disk space for the weights"
    )
