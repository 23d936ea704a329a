"""The command `jmedllm run`, and functions that `pretrain` and `tune` share with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jmedllm.cli.ending import after_scores, options, print_ending, print_use
from jmedllm.cli.options import Control, RecipeFile, from_plugins
from jmedllm.cli.printing import print_report
from jmedllm.errors import InputError
from jmedllm.processes import is_main_process, process_group

if TYPE_CHECKING:
    from jmedllm.precision import Precision
    from jmedllm.recipe import Recipe

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
PreviewExample = Annotated[
    bool,
    typer.Option(
        "--preview-example",
        help="Print the text of the first training example to standard error, trained tokens marked.",
    ),
]


def run(
    recipe: RecipeFile,
    output: RunFolder = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="Last stage to run: dequantize (base in bfloat16), canary (plants made-up people), "
            "corpus (reads the texts), mfpt (continued pretraining), mpeft (adapter tuning), merge (adapter into "
            "base), memorization (checks for canaries), eval (answers the benchmarks), "
            "deploy (files for llama.cpp), report (tables and page)"
            f"{from_plugins('stages')}.",
            show_default="the last one",
        ),
    ] = None,
    control: Control = None,
    seed: Seed = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the recipe and the files it names, without loading weights.")
    ] = False,
    preview_example: PreviewExample = False,
) -> None:
    """Run a recipe: corpus, mfpt, mpeft, merge, eval, deploy, report."""
    if check:
        from jmedllm.cli.check import check_recipe

        check_recipe(RunOptions(recipe, output, until, control, seed))
        print_ending("run", recipe, *options(output=output, until=until, control=control, seed=seed))
        return
    run_recipe(RunOptions(recipe, output, until, control, seed), preview_example=preview_example)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """A recipe and the options of `run`, `pretrain` and `tune`, named like those of the commands."""

    recipe: Path
    output: Path | None = None
    until: str | None = None
    control: str | None = None
    seed: int | None = None

    def load(self) -> "tuple[Recipe, Path, Precision]":
        """Load the recipe; return it with its run directory and its precision on this machine."""
        from jmedllm.precision import choose_precision
        from jmedllm.recipe_file import load_recipe

        loaded = load_recipe(self.recipe, control=self.control, seed=self.seed)
        precision = choose_precision(loaded.precision, loaded.device, loaded.threads)
        return loaded, self.output or Path("runs") / loaded.name, precision


def require_section(recipe: Path, section: str) -> None:
    """Check that a recipe has the section that a command trains.

    Raises:
        InputError: the section is missing.
    """
    from jmedllm.recipe_file import load_recipe

    if load_recipe(recipe).section(section) is None:
        raise InputError(f"{recipe}: has no {section} section, so there is nothing to train")


def run_recipe(given: RunOptions, *, preview_example: bool) -> None:
    """Run the stages of a recipe up to `until`, and print the scores if the report ran."""
    from jmedllm.recipe_file import located

    with located(given.recipe):
        _run_stages(given, preview_example=preview_example)


def _run_stages(given: RunOptions, *, preview_example: bool) -> None:
    from jmedllm.pipeline import run_pipeline, stages_until
    from jmedllm.planning.auto import fit
    from jmedllm.stages import STAGES, training_stages
    from jmedllm.stages.report import MODEL_CARD
    from jmedllm.stages.stage import Run, yielding

    loaded, folder, precision = given.load()
    last = stages_until(list(STAGES.values()), given.until)[-1].name
    if is_main_process():
        chosen = f"{precision.name} on {precision.device}, {precision.reason}"
        typer.echo(f"{loaded.name} in {folder}: {chosen}", err=True)

    def log(stage: str, message: str) -> None:
        typer.secho(f"{stage:<7} {message}", err=True, fg="green" if message.startswith("done") else None)

    with process_group():
        stages = training_stages(loaded, folder, last)
        fitted = fit(loaded, stages, precision, folder, lambda line: typer.echo(line, err=True))
        run_pipeline(STAGES.values(), Run(fitted, folder, precision, {}, previews_example=preview_example), last, log)
    is_finished = last == list(STAGES)[-1]
    models = [folder / model.folder for _, model in yielding(STAGES.values(), loaded)]
    if is_finished and loaded.eval and is_main_process():
        from jmedllm.report import collect, headlines

        collected = collect([folder])
        print_report([each.result for each in collected], headlines(collected))
        final = (models[-1], models[-1].parent / MODEL_CARD) if models else ()
        wrote = (folder / "report.html", folder / "report.md", *final)
        print_ending(*after_scores(collected, folder), wrote=wrote)
    elif not is_finished:
        more = options(output=given.output, control=given.control, seed=given.seed)
        print_ending("run", given.recipe, *more, wrote=(folder,))
    elif models:
        print_ending("eval", "--model", models[-1], "--benchmark", "NAME", "--output", "DIR", wrote=(folder,))
    else:  # only a corpus
        print_ending("init", "RECIPE.yaml", "--base", "MODEL", "--texts", folder / "corpus", wrote=(folder,))
    if is_finished and models:
        print_use(folder, models[-1], _exported(folder))


def _exported(folder: Path) -> Path | None:
    """Return the first GGUF file that the run exported, if its recipe asks for any."""
    from jmedllm.report.deployment import read_deployment

    return next((folder / each.file for each in read_deployment([folder])), None)
