"""`jmedllm run --check`: what a run would refuse, before it starts."""

from pathlib import Path

import typer


def check_recipe(recipe: Path, output: Path | None, until: str | None, control: str | None, seed: int | None) -> None:
    """Perform the checks of a recipe's stages and print a line for each."""
    from jmedllm.pipeline import check_pipeline
    from jmedllm.planning.auto import choices_for
    from jmedllm.precision import choose_precision
    from jmedllm.recipe_file import load_recipe
    from jmedllm.stages import STAGES, training_stages
    from jmedllm.stages.stage import Run

    loaded = load_recipe(recipe, control=control, seed=seed)
    folder = output or Path("runs") / loaded.name
    precision = choose_precision(loaded.precision, loaded.device, loaded.threads)
    checked = check_pipeline(STAGES.values(), Run(loaded, folder, precision, {}), until)
    has_base = all(each.is_complete for each in checked)
    stages = training_stages(loaded, folder, until)
    if loaded.memory == "auto" and stages:
        for name, choice in choices_for(loaded, stages, precision, folder).items():
            typer.echo(f"{name:<7} memory: {', '.join(choice.changes) or 'as configured'}")
    for each in checked:
        typer.echo(f"{each.stage:<7} {', '.join(each.checks) or 'nothing to check'}")
    if has_base:
        typer.echo(f"{recipe}: valid")
    else:
        typer.echo(
            f"{recipe}: valid, but base {loaded.base.path} is not on this machine: its tokenizer, chat template, "
            "tensors and sizes were not checked"
        )
