"""The commands of `jmedllm corpus`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.errors import InputError

corpus_app = typer.Typer(help="Raw medical text: make a clean corpus of it.", no_args_is_help=True)


@corpus_app.callback()
def _corpus() -> None:
    # With a callback the one command keeps its name on the command line.
    pass


@corpus_app.command("build")
def corpus_build(
    inputs: Annotated[
        list[Path],
        typer.Option("--input", help="Files and folders: .txt .md .jsonl .html .pdf, also as .gz or .zst."),
    ],
    output: Annotated[Path, typer.Option(help="Directory of the corpus; a second call goes on there.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[PATH...]", hidden=True)] = None,
    field: Annotated[str, typer.Option(help="Key of the text in lines of JSON.")] = "text",
    data: Annotated[
        Path | None,
        typer.Option(help="Data directory [data]: text of its exams is cut out.", envvar="JMEDLLM_DATA"),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Count tokens, too: directory of a model or tokenizer.")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Side by side [one for each core].")] = None,
) -> None:
    """Read, clean, deduplicate and decontaminate raw text, and report what was removed."""
    from jmedllm.corpus.pipeline.build import Order, build, tokenizer_file
    from jmedllm.corpus.pipeline.parallel import available_processes
    from jmedllm.corpus.pipeline.report import in_words
    from jmedllm.data.installed import test_questions

    if data is not None and not data.is_dir():
        raise InputError(f"--data {data}: no such folder, so there would be no exam to search for")
    order = Order((*inputs, *(more or ())), field, tokenizer_file(tokenizer) if tokenizer else None)
    summary = build(order, test_questions(data or Path("data")), output, processes or available_processes())
    typer.echo(in_words(summary))
    if not summary.questions:
        typer.secho("no exam was searched for: there is none in data/; choose --data", err=True, fg="yellow")
    typer.echo(f"corpus: {output}, report: {output / 'corpus.md'}", err=True)
