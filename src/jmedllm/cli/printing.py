"""How commands print what they found."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from jmedllm.evaluation.task import Paper, Sitting


def print_json(sittings: "Sequence[Sitting]") -> None:
    """All scores as one JSON object, and what was left out of each paper."""
    from dataclasses import asdict

    from jmedllm.files import to_json

    rows = [asdict(score) for sitting in sittings for score in sitting.scores]
    boards = [asdict(board) for sitting in sittings for board in sitting.official]
    papers = [
        {name: sitting.settings[name] for name in ("benchmark", "language", "selection")}
        | {name: getattr(sitting, name) for name in ("selected", "asked", "left_out", "notes", "failures")}
        for sitting in sittings
    ]
    typer.echo(to_json({"scores": rows, "official": boards, "papers": papers}, indent=2))


def print_accounts(papers: "Sequence[Paper]") -> None:
    """Say, before anything is asked, which items are left out and why, and how the questions were read."""
    from jmedllm.processes import is_first
    from jmedllm.report.accounts import accounts

    for line in accounts(papers) if is_first() else ():
        typer.echo(line, err=True)


def print_report(sittings: "Sequence[Sitting]") -> None:
    """All scores as tables."""
    from jmedllm.report import print_table

    print_table(sittings, console())


def console() -> "Console":
    """Where tables go: the terminal, or whatever its output is piped into."""
    from rich.console import Console

    found = Console()
    # Piped output keeps whole rows.
    return found if found.is_terminal else Console(width=120)
