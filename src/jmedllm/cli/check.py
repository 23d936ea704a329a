"""`jmedllm run --check`: what a run would refuse, before it starts."""

import typer

from jmedllm.cli.run import RunOptions


def check_recipe(given: RunOptions) -> None:
    """Perform the checks of a recipe's stages and print a line for each."""
    from jmedllm.pipeline import check_pipeline
    from jmedllm.planning.auto import choices_for
    from jmedllm.stages import STAGES, training_stages
    from jmedllm.stages.stage import Run

    loaded, folder, precision = given.load()
    checked = check_pipeline(STAGES.values(), Run(loaded, folder, precision, {}), given.until)
    stages = training_stages(loaded, folder, given.until)
    if loaded.memory == "auto" and stages:
        for name, choice in choices_for(loaded, stages, precision, folder).items():
            typer.echo(f"{name:<7} memory: {', '.join(choice.changes) or 'as configured'}")
    for each in checked:
        typer.echo(f"{each.stage:<7} {', '.join(each.checks) or 'nothing to check'}")
    if all(each.is_complete for each in checked):
        typer.echo(f"{given.recipe}: valid")
    else:
        typer.echo(
            f"{given.recipe}: valid, but base {loaded.base.path} is not on this machine: "
            "its tokenizer, chat template, tensors and sizes were not checked"
        )
