"""Commands that train: a whole recipe, one of its stages, the merge."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jmedllm.cli.options import Control, Device, Precision, RecipeFile
from jmedllm.cli.printing import print_report
from jmedllm.errors import InputError
from jmedllm.processes import is_main_process, process_group

Stage = Literal["corpus", "mfpt", "mpeft", "merge", "eval", "report"]
RunFolder = Annotated[Path | None, typer.Option("--output", help="Run directory [runs/NAME].")]
Seed = Annotated[int | None, typer.Option(help="Replaces the recipe's seed.")]
ShowExample = Annotated[
    bool, typer.Option("--show-example", help="Print the text of the first training example to standard error.")
]


def run(
    recipe: RecipeFile,
    output: RunFolder = None,
    until: Annotated[Stage, typer.Option(help="Last stage to carry out.")] = "report",
    control: Control = None,
    seed: Seed = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the recipe, and the base's files; load no weights.")
    ] = False,
    show_example: ShowExample = False,
) -> None:
    """Carry out a recipe: corpus, mfpt, mpeft, merge, exam, report."""
    if check:
        from jmedllm.recipe import load_recipe
        from jmedllm.stages import STAGES
        from jmedllm.stages.models import check_base

        checked = load_recipe(recipe, control=control, seed=seed)
        if not check_base(checked):
            typer.echo(f"{recipe}: base {checked.base.path} is not on this machine and was not checked", err=True)
        enabled = [stage.name for stage in STAGES if stage.enabled(checked)]
        typer.echo(f"{recipe}: valid; stages {', '.join(enabled)}")
        return
    _run_pipeline(recipe, output, until, control, seed, show_example)


def pretrain(
    recipe: RecipeFile,
    output: RunFolder = None,
    control: Control = None,
    seed: Seed = None,
    show_example: ShowExample = False,
) -> None:
    """Stage 1 (MFPT) of a recipe, with the corpus stage it needs."""
    _require_section(recipe, "mfpt")
    _run_pipeline(recipe, output, "mfpt", control, seed, show_example)


def tune(
    recipe: RecipeFile,
    output: RunFolder = None,
    control: Control = None,
    seed: Seed = None,
    show_example: ShowExample = False,
) -> None:
    """Stage 2 (MPEFT) of a recipe, with the stages it needs."""
    _require_section(recipe, "mpeft")
    _run_pipeline(recipe, output, "mpeft", control, seed, show_example)


def _require_section(recipe: Path, section: str) -> None:
    from jmedllm.recipe import load_recipe

    if getattr(load_recipe(recipe), section) is None:
        raise InputError(f"{recipe}: has no {section} section, so there is nothing to train")


def _run_pipeline(
    recipe: Path, output: Path | None, until: Stage, control: str | None, seed: int | None, show_example: bool
) -> None:
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
        typer.echo(f"report: {folder / 'report.html'}, {folder / 'report.md'}", err=True)


def merge(
    model: Annotated[str, typer.Option(help="Base: directory, or id in the local Hugging Face cache.")],
    adapter: Annotated[Path, typer.Option(help="Adapter trained on that base.")],
    output: Annotated[Path, typer.Option(help="Directory of the merged model.")],
    text: Annotated[Path | None, typer.Option(help="Text to hold it against the trained model on [built-in].")] = None,
    accept_divergence: Annotated[
        float, typer.Option(help="Largest KL from the trained model, in nats a token.")
    ] = 0.01,
    precision: Precision = "auto",
    device: Device = "auto",
) -> None:
    """Fold an adapter into its base: a plain model directory, measured against the model that was trained."""
    from jmedllm.deploy.divergence import TEXTS, read_texts
    from jmedllm.deploy.merge import MergeConfig
    from jmedllm.deploy.merge import merge as merge_into
    from jmedllm.models.folder import resolve
    from jmedllm.precision import choose_precision
    from jmedllm.settings import from_options

    settings = from_options(MergeConfig, accept_divergence=accept_divergence)
    merged = merge_into(
        resolve(model),
        adapter,
        output,
        choose_precision(precision, device),
        texts=TEXTS if text is None else read_texts(text),
        accepted=settings.accept_divergence,
    )
    far = merged.divergence
    typer.echo(f"merged model {merged.fingerprint} in {output}")
    typer.echo(f"KL from the trained model: {far.nats:.2g} nats a token, over {far.tokens} tokens")
