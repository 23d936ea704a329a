"""The commands of `jmedllm corpus`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.deidentify import corpus_deidentify
from jmedllm.cli.ending import print_ending
from jmedllm.errors import InputError

corpus_app = typer.Typer(help="Build a clean corpus from raw medical text.", no_args_is_help=True)


@corpus_app.callback()
def _corpus() -> None:
    # With a callback, a single command keeps its name on the command line.
    pass


corpus_app.command("deidentify")(corpus_deidentify)


@corpus_app.command("build")
def corpus_build(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Files and folders: .txt .md .jsonl .html .pdf .docx, also .gz, .zst."),
    ],
    output: Annotated[Path, typer.Option(help="Directory for the corpus. An interrupted build resumes from here.")],
    field: Annotated[str, typer.Option(help="Key of the text in .jsonl files.")] = "text",
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data directory. The test questions of all benchmarks in it are cut out of the text.",
            envvar="JMEDLLM_DATA",
            show_default="data",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Model or tokenizer directory, to count tokens as well.", show_default="tokens not counted"),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Number of parallel processes.", show_default="one per CPU core")
    ] = None,
) -> None:
    """Read, clean, deduplicate and decontaminate raw text."""
    from jmedllm.corpus.pipeline.build import BuildConfig, build, tokenizer_file
    from jmedllm.corpus.pipeline.report import PERSONAL_DATA, terminal_summary
    from jmedllm.data.installed import test_questions
    from jmedllm.processes import available_cores

    if data is not None and not data.is_dir():
        raise InputError(f"--data {data}: no such folder, so no benchmark could be searched for")
    config = BuildConfig(tuple(paths), field, tokenizer_file(tokenizer) if tokenizer else None)
    summary = build(config, test_questions(data or Path("data")), output, processes or available_cores())
    typer.echo(terminal_summary(summary))
    if not summary.questions:
        typer.secho(
            f"no benchmark question was searched for: {data or 'data'}/ has none; choose --data", err=True, fg="yellow"
        )
    if not summary.personal_data_removed:
        typer.secho(PERSONAL_DATA, err=True, fg="yellow")
    print_ending("init", "RECIPE.yaml", "--base", "MODEL", "--texts", output, wrote=(output, output / "corpus.md"))
