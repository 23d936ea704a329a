"""The command `jmedllm doctor`."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.options import AsJson

_COLOURS = {"ok": "green", "warning": "yellow", "fix": "red"}


def doctor(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Data and run directories.",
            show_default="runs, results, corpora, models and data, if they are here",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check software, hardware, network, variables and permissions."""
    from dataclasses import asdict

    from jmedllm.doctor import check_all, table, worst
    from jmedllm.files import to_json

    checks = check_all(paths or [])
    if as_json:
        typer.echo(to_json({"status": worst(checks), "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        is_terminal = sys.stdout.isatty()

        def paint(status: str, text: str) -> str:
            return typer.style(text, fg=_COLOURS[status]) if is_terminal else text

        typer.echo(table(checks, min(shutil.get_terminal_size().columns, 120), paint))
    raise typer.Exit(int(worst(checks) == "fix"))
