"""The command `jmedllm report`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.ending import after_scores, print_ending
from jmedllm.cli.options import StoredData
from jmedllm.cli.printing import print_report


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Directories that eval or run wrote.")],
    output: Annotated[Path | None, typer.Option(help="Also write Markdown to this file.", show_default="none")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write an HTML page with every item to this file.", show_default="none")
    ] = None,
    data: StoredData = None,
    questions: Annotated[
        list[Path] | None,
        typer.Option(
            help="File of your own questions, if it has been moved, for the page; give it once for each file.",
            show_default="the files that were evaluated",
        ),
    ] = None,
) -> None:
    """Print scores beside published ones; write them to a file."""
    from jmedllm.evaluation.stored_questions import QuestionPlaces
    from jmedllm.files import write_atomic
    from jmedllm.report import collect, headlines, markdown, questions_of
    from jmedllm.report.deployment import read_deployment
    from jmedllm.report.memorization import read_memorization
    from jmedllm.report.page import write_page
    from jmedllm.report.training import read_training

    collected = collect(folders)
    results, lines = [each.result for each in collected], headlines(collected)
    if html is not None:
        title = ", ".join(folder.resolve().name for folder in folders)
        found = questions_of(collected, QuestionPlaces(data, questions or ()))
        memorized = [each for folder in folders for each in read_memorization(folder)]
        write_page(html, collected, found, title, read_training(folders), read_deployment(folders), memorized)
    if output is not None:
        write_atomic(output, markdown(results, lines))
    print_report(results, lines)
    print_ending(*after_scores(collected, *folders), wrote=tuple(file for file in (output, html) if file))
