"""The command `jmedllm run`, and what it shares with `pretrain` and `tune`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jmedllm.cli.ending import options, print_ending
from jmedllm.cli.options import Control, RecipeFile
from jmedllm.cli.printing import print_report
from jmedllm.errors import InputError
from jmedllm.processes import is_main_process, process_group

Stage = Literal["corpus", "mfpt", "mpeft", "merge", "eval", "report"]
RunFolder = Annotated[
    Path | None,
    typer.Option("--output", help="Run directory. An interrupted run resumes from here.", show_default="runs/NAME"),
]
Seed = Annotated[
    int | None,
    typer.Option(
        help="Seed to use instead of the recipe's; it is added to the run's name.", show_default="the recipe's"
    ),
]
ShowExample = Annotated[
    bool,
    typer.Option(
        "--show-example",
        help="Print the text of the first training example to standard error, trained tokens marked.",
    ),
]


def run(
    recipe: RecipeFile,
    output: RunFolder = None,
    until: Annotated[
        Stage,
        typer.Option(
            help="Last stage to run: corpus (reads the texts), mfpt (continued pretraining), mpeft (adapter tuning), "
            "merge (adapter into base), eval (answers the benchmarks), report (tables and page)."
        ),
    ] = "report",
    control: Control = None,
    seed: Seed = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the recipe and the files it names, without loading weights.")
    ] = False,
    show_example: ShowExample = False,
) -> None:
    """Run a recipe: corpus, mfpt, mpeft, merge, eval, report."""
    if check:
        from jmedllm.recipe import load_recipe
        from jmedllm.stages import STAGES
        from jmedllm.stages.models import check_base

        checked = load_recipe(recipe, control=control, seed=seed)
        if not check_base(checked):
            typer.echo(f"{recipe}: base {checked.base.path} is not on this machine and was not checked", err=True)
        enabled = [stage.name for stage in STAGES if stage.enabled(checked)]
        typer.echo(f"{recipe}: valid; stages {', '.join(enabled)}")
        print_ending("plan", recipe, *options(output=output, control=control))
        return
    run_recipe(recipe, output, until, control, seed, show_example)


def require_section(recipe: Path, section: str) -> None:
    """Refuse a recipe that does not have the section a command trains by.

    Raises:
        InputError: it has none.
    """
    from jmedllm.recipe import load_recipe

    if getattr(load_recipe(recipe), section) is None:
        raise InputError(f"{recipe}: has no {section} section, so there is nothing to train")


def run_recipe(
    recipe: Path, output: Path | None, until: Stage, control: str | None, seed: int | None, show_example: bool
) -> None:
    """Run the stages of a recipe up to one of them, and print the scores where the report is that one."""
    from jmedllm.pipeline import Run, run_pipeline
    from jmedllm.planning.auto import fit
    from jmedllm.precision import choose_precision
    from jmedllm.recipe import load_recipe
    from jmedllm.stages import STAGES

    loaded = load_recipe(recipe, control=control, seed=seed)
    folder = output or Path("runs") / loaded.name
    precision = choose_precision(loaded.precision, loaded.device, loaded.threads)
    if is_main_process():
        chosen = f"{precision.name} on {precision.device}, {precision.reason}"
        typer.echo(f"{loaded.name} in {folder}: {chosen}", err=True)

    def log(stage: str, message: str) -> None:
        typer.secho(f"{stage:<7} {message}", err=True, fg="green" if message.startswith("done") else None)

    with process_group():
        fitted = fit(loaded, precision, folder, until, lambda line: typer.echo(line, err=True))
        run_pipeline(STAGES, Run(fitted, folder, precision, {}, shows_example=show_example), until, log)
    if is_main_process() and until == "report" and loaded.eval:
        from jmedllm.report import collect, headlines

        collected = collect([folder])
        print_report([each.result for each in collected], headlines(collected))
    again = (str(recipe), *options(output=output, control=control, seed=seed))
    if until == "mfpt" and loaded.mpeft:
        print_ending("tune", *again, wrote=(folder,))
    elif until != "report":
        print_ending("run", *again, wrote=(folder,))
    elif loaded.eval:
        print_ending("compare", folder, wrote=(folder / "report.html", folder / "report.md"))
    else:
        model = folder / ("merge" if loaded.mpeft else "mfpt") / "model"
        print_ending("eval", "--model", model, "--benchmark", "NAME", "--output", "DIR", wrote=(folder,))
