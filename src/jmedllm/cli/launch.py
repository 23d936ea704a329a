"""The command `jmedllm launch`."""

from typing import Annotated

import typer

from jmedllm.errors import InputError

SHARED = ("run", "pretrain", "tune", "eval")
"""Commands whose work several processes share."""

MOST_PER_CORE = 8
"""Most processes for each core: no machine has as many GPUs, and each process takes some hundred MB."""


def launch(
    command: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND", help="Command and its options: run, pretrain, tune or eval."),
    ],
    processes: Annotated[int, typer.Option(min=1, help="Number of processes, usually one for each GPU.")],
) -> None:
    """Run a command in several processes of this machine."""
    if command[0] not in SHARED:
        raise InputError(f"launch {command[0]}: runs in one process; launch takes {', '.join(SHARED)}")
    from jmedllm.launcher import launch as start
    from jmedllm.processes import available_cores

    if processes > (most := MOST_PER_CORE * available_cores()):
        raise InputError(
            f"--processes {processes:,}: this machine has cores for {most} at most; give one for each GPU"
        )

    asks = {"--help", "-h", "--version"} & set(command)
    raise typer.Exit(start(command, 1 if asks else processes))
