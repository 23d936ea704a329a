"""The commands of `jmedllm corpus`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.errors import InputError

corpus_app = typer.Typer(help="Build a clean corpus from raw medical text.", no_args_is_help=True)


@corpus_app.callback()
def _corpus() -> None:
    # With a callback the one command keeps its name on the command line.
    pass


@corpus_app.command("build")
def corpus_build(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Files and folders: .txt .md .jsonl .html .pdf .docx, also .gz, .zst."),
    ],
    output: Annotated[Path, typer.Option(help="Directory for the corpus. An interrupted build resumes from here.")],
    field: Annotated[str, typer.Option(help="Key of the text in .jsonl files [text].")] = "text",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data directory [data]. The questions of all exams in it are cut out of the text.",
            envvar="JMEDLLM_DATA",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Model or tokenizer directory, to count tokens as well [not counted].")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Number of parallel processes [one per CPU core].")
    ] = None,
) -> None:
    """Read, clean, deduplicate and decontaminate raw text, and report what was removed."""
    from jmedllm.corpus.pipeline.build import BuildConfig, build, tokenizer_file
    from jmedllm.corpus.pipeline.parallel import available_processes
    from jmedllm.corpus.pipeline.report import PERSONAL_DATA, terminal_summary
    from jmedllm.data.installed import test_questions

    if data is not None and not data.is_dir():
        raise InputError(f"--data {data}: no such folder, so no exam could be searched for")
    config = BuildConfig(tuple(paths), field, tokenizer_file(tokenizer) if tokenizer else None)
    summary = build(config, test_questions(data or Path("data")), output, processes or available_processes())
    typer.echo(terminal_summary(summary))
    if not summary.questions:
        typer.secho(
            f"no exam question was searched for: {data or 'data'}/ has none; choose --data", err=True, fg="yellow"
        )
    if not summary.personal_data_removed:
        typer.secho(PERSONAL_DATA, err=True, fg="yellow")
    typer.echo(f"corpus: {output} (report: {output / 'corpus.md'})", err=True)
    typer.echo(f"next: write `corpus: {{inputs: [{output}]}}` in a recipe; jmedllm run RECIPE.yaml", err=True)
