"""Commands that report on finished evaluations: report and compare."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.options import Data
from jmedllm.cli.printing import console, print_report
from jmedllm.errors import InputError

Folders = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Output directories of evaluations or runs.")]


def report(
    folders: Folders,
    output: Annotated[Path | None, typer.Option(help="Also write the report as Markdown to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write an HTML page with every item to this file.")] = None,
    data: Data = Path("data"),
    questions: Annotated[list[Path] | None, typer.Option(help="Your own questions that were evaluated.")] = None,
) -> None:
    """Print the scores of finished evaluations beside published ones."""
    from jmedllm.files import write_atomic
    from jmedllm.report import collect, headlines, markdown, questions_of
    from jmedllm.report.page import write_page
    from jmedllm.report.training import read_training

    collected = collect(folders)
    results, lines = [each.result for each in collected], headlines(collected)
    if html is not None:
        title = ", ".join(folder.resolve().name for folder in folders)
        write_page(html, collected, questions_of(collected, data, questions or ()), title, read_training(folders))
    if output is not None:
        write_atomic(output, markdown(results, lines))
    print_report(results, lines)


def compare(
    folders: Folders,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparisons as JSON.")] = False,
) -> None:
    """Compare models, and Japanese with English, item by item: is A better than B?"""
    from dataclasses import asdict

    from jmedllm.files import to_json
    from jmedllm.report.collect import collect
    from jmedllm.report.compare import compare as compare_all
    from jmedllm.report.table import print_comparisons

    found = compare_all(collect(folders))
    if not found:
        raise InputError(
            "nothing to compare: give results of two models on one benchmark, or of one in both languages"
        )
    if as_json:
        typer.echo(to_json({"comparisons": [asdict(each) for each in found]}, indent=2))
    else:
        print_comparisons(found, console())
