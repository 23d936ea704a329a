"""The command `jmedllm plan`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jmedllm.cli.ending import options, print_ending
from jmedllm.cli.options import AsJson, Control, RecipeFile
from jmedllm.cli.printing import console
from jmedllm.errors import InputError

if TYPE_CHECKING:
    from jmedllm.planning.machine import Machine
    from jmedllm.recipe import Recipe

_MACHINE = "Machine"


Gpu = Annotated[
    str | None,
    typer.Option(
        help="One GPU, by its name (rtx4090), its memory (24GiB), or its memory and speed (24GiB,165,1008,32: "
        "TFLOP/s, GB/s of its memory, GB/s of its link to the host).",
        show_default="this machine's GPU, else its CPU",
        rich_help_panel=_MACHINE,
    ),
]
Gpus = Annotated[
    str | None,
    typer.Option(
        help="Several GPUs in each machine instead, such as 8xh100 or 2x24GiB.",
        show_default="one",
        rich_help_panel=_MACHINE,
    ),
]
Nodes = Annotated[int, typer.Option(min=1, help="Number of machines.", rich_help_panel=_MACHINE)]
Ram = Annotated[
    str | None,
    typer.Option(
        help="Host memory of each machine, such as 64GiB.",
        show_default="that of this machine",
        rich_help_panel=_MACHINE,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(help="Run directory. If it has packed blocks, their number is used.", show_default="runs/NAME"),
]


def plan(
    recipe: RecipeFile,
    gpu: Gpu = None,
    gpus: Gpus = None,
    nodes: Nodes = 1,
    ram: Ram = None,
    output: Output = None,
    control: Control = None,
    as_json: AsJson = False,
) -> None:
    """Estimate the memory and time that a recipe needs, before it runs."""
    from jmedllm.files import to_json
    from jmedllm.planning.deploy import plan_deploy
    from jmedllm.planning.dequantize import plan_dequantize
    from jmedllm.planning.eval import plan_eval
    from jmedllm.planning.plan import base_of
    from jmedllm.planning.plan import plan as plan_recipe
    from jmedllm.planning.printing import as_json as values_of
    from jmedllm.planning.printing import print_plan
    from jmedllm.recipe_file import load_recipe, located
    from jmedllm.stages import training_stages, unplanned

    if gpu is not None and gpus is not None:
        raise InputError("give either --gpu, such as 24GiB or rtx4090, or --gpus, such as 8xh100")
    if output is not None and output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is not a directory; leave it out, or give the run's directory")
    loaded = load_recipe(recipe, control=control)
    if gpu is None and gpus is None:
        if nodes > 1 or ram is not None:
            raise InputError("--nodes and --ram describe another machine; give its --gpu or --gpus, too")
        loaded, machine = _here(loaded)
    else:
        machine = _described(gpu, gpus, nodes, ram)
    with located(recipe):
        found = plan_recipe(loaded, training_stages(loaded, output or Path("runs") / loaded.name), machine)
        base = base_of(loaded)
        evaluation, dequantization = plan_eval(loaded, base, machine), plan_dequantize(base)
        deployment = plan_deploy(loaded, base)
    if as_json:
        typer.echo(to_json(values_of(found, evaluation, machine, dequantization, deployment), indent=2))
    else:
        print_plan(found, evaluation, machine, console(), dequantization, deployment)
        if others := unplanned(loaded):
            typer.echo(f"no estimate for {', '.join(others)}", err=True)
        fits = all(
            each.chosen is not None and (not each.changes or loaded.memory == "auto") for each in found
        )  # as configured, or as `memory: auto` changes it
        if fits:
            print_ending("run", recipe, *options(output=output, control=control))


def _described(gpu: str | None, gpus: str | None, nodes: int, ram: str | None) -> "Machine":
    """Return the machine that the options describe; without --ram it has the host memory of this machine."""
    import os

    from jmedllm.planning.machine import Machine, host_memory, read_gpu, read_gpus, read_size

    device, count = read_gpus(gpus) if gpus else (read_gpu(gpu or ""), 1)
    memory, cores = (read_size(ram, "--ram"), None) if ram else (host_memory(), os.cpu_count())
    return Machine(device, count, nodes, memory, cores=cores)


def _here(recipe: "Recipe") -> tuple["Recipe", "Machine"]:
    """Return this machine, and the recipe with the precision that a run would choose on it."""
    from jmedllm.planning.machine import gib, this_machine
    from jmedllm.precision import choose_precision

    precision = choose_precision(recipe.precision, recipe.device, recipe.threads)
    machine = this_machine(precision.device)
    memory = gib(machine.gpu.memory)
    if machine.is_shared:
        typer.echo(f"planning for {machine.gpu.name} and {memory} of memory; --gpu plans for a GPU", err=True)
    else:
        typer.echo(f"planning for this machine's {machine.gpu.name}, {memory}", err=True)
    return recipe.model_copy(update={"precision": precision.name}), machine
