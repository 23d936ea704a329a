"""Commands that tell what finished exams found."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.options import Data
from jmedllm.cli.printing import console, print_report
from jmedllm.errors import InputError


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Outputs of exams or runs.")],
    output: Annotated[Path | None, typer.Option(help="Also write Markdown to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write one page with every item to this file.")] = None,
    data: Data = Path("data"),
    questions: Annotated[list[Path] | None, typer.Option(help="Your own questions that were evaluated.")] = None,
) -> None:
    """Print the scores of finished exams beside the published ones."""
    from jmedllm.files import write_atomic
    from jmedllm.report import collect_records, markdown, questions_of
    from jmedllm.report.page import write_page
    from jmedllm.report.training import read_training

    sat = collect_records(folders)
    results = [each.result for each in sat]
    if html is not None:
        title = ", ".join(folder.resolve().name for folder in folders)
        write_page(html, sat, questions_of(sat, data, questions or ()), title, read_training(folders))
    if output is not None:
        write_atomic(output, markdown(results))
    print_report(results)


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Outputs of exams or runs.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparisons as JSON.")] = False,
) -> None:
    """Compare models, and Japanese with English, item by item: is A better than B?"""
    from dataclasses import asdict

    from jmedllm.files import to_json
    from jmedllm.report.collect import collect_records
    from jmedllm.report.compare import compare as compare_all
    from jmedllm.report.compare import print_comparisons

    found = compare_all(collect_records(folders))
    if not found:
        raise InputError("nothing to compare: give exams of two models on one benchmark, or of one in both languages")
    if as_json:
        typer.echo(to_json({"comparisons": [asdict(each) for each in found]}, indent=2))
    else:
        print_comparisons(found, console())
