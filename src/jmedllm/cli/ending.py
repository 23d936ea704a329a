"""How every command ends: where it wrote, and the one command to run next."""

import os
import shlex
from pathlib import Path

import typer

from jmedllm.processes import is_main_process


def print_ending(*command: str | Path, wrote: tuple[Path, ...] = (), program: str = "jmedllm") -> None:
    """Print where a command wrote and what to run next, on standard error, so that its output can be piped.

    Commands do not call it with --json.

    Args:
        command: the words of the next command; words in capitals are for the user to replace.
        wrote: files and folders.
        program: what runs the next command.
    """
    if not is_main_process():
        return
    if wrote:
        typer.secho(f"wrote: {', '.join(map(str, wrote))}", err=True, fg="green")
    typer.secho(f"next:  {shlex.join(map(str, (program, *command)))}", err=True, fg="green")


def data_options(data: Path) -> tuple[str, ...]:
    """The option that names a data directory in the next command, where that would not find it by itself."""
    return () if data == Path(os.environ.get("JMEDLLM_DATA", "data")) else ("--data", str(data))


def options(**given: object) -> tuple[str, ...]:
    """Options of the next command that this one was given: those that are not None."""
    return tuple(word for name, value in given.items() if value is not None for word in (f"--{name}", str(value)))
