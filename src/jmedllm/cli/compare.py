"""The command `jmedllm compare`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.ending import print_ending
from jmedllm.cli.options import AsJson
from jmedllm.cli.printing import console
from jmedllm.errors import InputError


def compare(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Directories that eval or run wrote.")],
    as_json: AsJson = False,
) -> None:
    """Compare models, or Japanese with English, on the same items."""
    from dataclasses import asdict

    from jmedllm.files import to_json
    from jmedllm.progress import notice
    from jmedllm.report.collect import collect
    from jmedllm.report.compare import compare as compare_all
    from jmedllm.report.notes import differing_pictures
    from jmedllm.report.table import print_comparisons

    collected = collect(folders)
    for note in (note for each in collected for note in each.unreadable):
        notice(note)
    found = compare_all(collected)
    if not found:
        raise InputError(
            "nothing to compare: give results of two models on one benchmark, or of one in both languages"
        )
    for note in differing_pictures(each.result for each in collected):
        notice(note)
    if as_json:
        typer.echo(to_json({"comparisons": [asdict(each) for each in found]}, indent=2))
    else:
        print_comparisons(found, console())
        print_ending("report", *folders, "--html", "report.html")
