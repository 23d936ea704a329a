"""A plan on the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jmedllm.planning.machine import GIB, Machine
from jmedllm.planning.plan import Advice, StagePlan


def print_plan(found: Sequence[Advice], machine: Machine, console: Console) -> None:
    """Each stage as the recipe has it, and as it would fit."""
    many = f"{machine.gpus} × " * (machine.gpus > 1) + machine.gpu.name
    nodes = f"{machine.nodes} nodes of {many}" if machine.nodes > 1 else many
    console.print(f"{nodes}: {_gib(machine.gpu.memory)} each, {_gib(machine.ram)} of host memory a node")
    for each in found:
        console.print()
        _print_stage(each.planned, machine, console)
        if each.planned.fits(machine):
            continue
        if each.changes:
            told = "; ".join(f"{change.setting} ({change.cost})" for change in each.changes)
            console.print(Text(f"With {told}:", style="bold"))
            _print_stage(each.changed, machine, console)
        if not each.changed.fits(machine):
            least = f"a GPU of {_gib(each.changed.gpu)} and {_gib(each.changed.host)} on the host"
            console.print(
                Text(f"It does not fit with any setting there is: the smallest machine has {least}", style="red")
            )
    console.print()
    console.print(
        Text(
            "Sizes: counted on the recipe's own step, run without contents; CUDA's share is assumed. Hours: if a "
            "quarter to a half of the rated speed is reached. Neither has been measured on a GPU yet.",
            style="dim",
        )
    )


def _print_stage(planned: StagePlan, machine: Machine, console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(planned.stage, min_width=44)
    for name in ("each GPU", "host", "disk"):
        table.add_column(name, justify="right")
    for part in planned.parts:
        table.add_row(part.name, *(_gib(size) if size else "" for size in (part.gpu, part.host, part.disk)))
    table.add_section()
    style = "green" if planned.fits(machine) else "red"
    table.add_row(
        Text("fits" if planned.fits(machine) else "does not fit", style=style),
        *(_gib(size) for size in (planned.gpu, planned.host, planned.disk)),
    )
    console.print(table)
    console.print(Text(_work(planned, machine), style="dim"))


def _work(planned: StagePlan, machine: Machine) -> str:
    tokens, unit = (planned.tokens, "") if planned.tokens else (1_000_000, " a million")
    hours = planned.hours(machine, tokens)
    read = f"{planned.tokens:,} tokens" if planned.tokens else "tokens: not known before the data are packed"
    if hours is None:
        return f"{read}; hours: not known for {machine.gpu.name}, name a GPU"
    return f"{read}; {hours[0]:,.2g} to {hours[1]:,.2g} hours{unit}"


def _gib(size: int) -> str:
    return f"{size / GIB:,.1f} GiB"
