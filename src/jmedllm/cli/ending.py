"""Last lines of every command: written files, and the next command to run."""

import os
import shlex
from pathlib import Path

import typer

from jmedllm.processes import is_main_process


def print_ending(*command: str | Path, wrote: tuple[Path, ...] = (), program: str = "jmedllm") -> None:
    """Print where a command wrote and what to run next, on standard error, so that its output can be piped.

    Commands do not call it with --json.

    Args:
        command: words of the next command; the user replaces words in capitals.
        wrote: written files and folders.
        program: program of the next command.
    """
    if not is_main_process():
        return
    if wrote:
        typer.secho(f"wrote: {', '.join(map(str, wrote))}", err=True, fg="green")
    typer.secho(f"next:  {shlex.join(map(str, (program, *command)))}", err=True, fg="green")


def data_options(data: Path) -> tuple[str, ...]:
    """Return the option for the data directory in the next command, if it is not the default."""
    return () if data == Path(os.environ.get("JMEDLLM_DATA", "data")) else ("--data", str(data))


def options(**given: object) -> tuple[str, ...]:
    """Return the given options for the next command, without those that are None."""
    return tuple(word for name, value in given.items() if value is not None for word in (f"--{name}", str(value)))
