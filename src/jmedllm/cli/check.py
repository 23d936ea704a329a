"""`jmedllm run --check`: what a run would refuse, before it starts."""

import typer

from jmedllm.cli.run import RunOptions


def check_recipe(given: RunOptions) -> None:
    """Perform the checks of a recipe's stages and print a line for each."""
    from jmedllm.recipe_file import located

    with located(given.recipe):
        _check(given)


def _check(given: RunOptions) -> None:
    from jmedllm.pipeline import check_pipeline, compare_pipeline
    from jmedllm.planning.auto import choices_for, with_choices
    from jmedllm.stages import STAGES, training_stages
    from jmedllm.stages.stage import Run

    loaded, folder, precision = given.load()
    checked = check_pipeline(STAGES.values(), Run(loaded, folder, precision, {}), given.until)
    stages = training_stages(loaded, folder, given.until)
    if loaded.memory == "auto" and stages:
        choices = choices_for(loaded, stages, precision, folder)
        loaded = with_choices(loaded, stages, choices)
        for name, choice in choices.items():
            typer.echo(f"{name:<7} memory: {', '.join(choice.changes) or 'as configured'}")
    compared = compare_pipeline(STAGES.values(), Run(loaded, folder, precision, {}), given.until)
    for each in checked:
        typer.echo(f"{each.stage:<7} {'checked: ' if each.checks else ''}{', '.join(each.checks) or 'no checks'}")
    if compared:
        typer.echo(f"{folder} has an earlier run. A run in it does this:")
        for name, what in compared.items():
            typer.echo(f"{name:<7} {what}")
    if all(each.is_complete for each in checked):
        typer.echo(f"{given.recipe}: valid")
    else:
        typer.echo(
            f"{given.recipe}: valid as far as checked. Base {loaded.base.path} is not on this machine, "
            "so its tokenizer, chat template, tensors and sizes were not checked"
        )
