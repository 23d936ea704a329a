"""Print results of commands."""

import os
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from jmedllm.evaluation.result import EvalResult
    from jmedllm.evaluation.task import EvalTask


def print_json(results: "Sequence[EvalResult]") -> None:
    """Print all scores as one JSON object, with the items left out of each task."""
    from dataclasses import asdict

    from jmedllm.evaluation.lengths import is_marked
    from jmedllm.files import to_json

    rows = [
        asdict(score) | {"is_truncated": is_marked(score.truncated, score.responses)}
        for result in results
        for score in result.scores
    ]
    outcomes = [asdict(outcome) for result in results for outcome in result.exam_outcomes]
    tasks = [
        {name: result.settings[name] for name in ("benchmark", "language", "selection")}
        | {name: getattr(result, name) for name in ("selected", "asked", "left_out", "notes", "failures")}
        | {"decoding": result.settings["decoding"], "max_new_tokens": result.settings["max_new_tokens"]}
        | {"lengths": result.lengths and asdict(result.lengths), "samples": list(map(asdict, result.samples))}
        for result in results
    ]
    typer.echo(to_json({"scores": rows, "exam_outcomes": outcomes, "tasks": tasks}, indent=2))


def print_item_notes(tasks: "Sequence[EvalTask]") -> None:
    """Print the items left out with reasons, and how the questions were read, before the evaluation."""
    from jmedllm.processes import is_main_process
    from jmedllm.report.notes import item_notes

    for line in item_notes(tasks) if is_main_process() else ():
        typer.echo(line, err=True)


def print_report(results: "Sequence[EvalResult]", headlines: "Sequence[str]" = ()) -> None:
    """Print the headlines, and all scores as tables."""
    from jmedllm.report import print_table

    print_table(results, console(), headlines)


def console() -> "Console":
    """Return the console for tables on standard output."""
    from jmedllm.console import SafeConsole

    found = SafeConsole()
    # Piped output has full rows, unless the user sets a width.
    return found if found.is_terminal or "COLUMNS" in os.environ else SafeConsole(width=120)
