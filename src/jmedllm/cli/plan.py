"""The command `jmedllm plan`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.options import Control, RecipeFile
from jmedllm.cli.printing import console
from jmedllm.errors import InputError


def plan(
    recipe: RecipeFile,
    gpu: Annotated[
        str | None,
        typer.Option(help="A GPU by name or numbers: rtx4090, 24GiB, or 24GiB,165,1008,32 with its rates."),
    ] = None,
    gpus: Annotated[str | None, typer.Option(help="Several in each node: 8xh100, 2x24GiB.")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    ram: Annotated[str | None, typer.Option(help="Host memory of each machine [that of this one].")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Run directory; its packed blocks say how many tokens there are [runs/NAME]."),
    ] = None,
    control: Control = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Say what fits a machine and how long it takes, from the base's config alone."""
    import os

    from jmedllm.files import to_json
    from jmedllm.planning.eval import plan_eval
    from jmedllm.planning.machine import Machine, host_memory, read_gpu, read_gpus, read_size
    from jmedllm.planning.plan import base_of
    from jmedllm.planning.plan import plan as plan_recipe
    from jmedllm.planning.show import as_json as values_of
    from jmedllm.planning.show import print_plan
    from jmedllm.recipe import load_recipe

    if (gpu is None) == (gpus is None):
        raise InputError("give either --gpu, such as 24GiB or rtx4090, or --gpus, such as 8xh100")
    if output is not None and output.exists() and not output.is_dir():
        raise InputError(f"--output {output}: is no run directory; leave it out, or give the one of the run")
    device, count = read_gpus(gpus) if gpus else (read_gpu(gpu or ""), 1)
    # Without --ram the host is this machine.
    memory, cores = (read_size(ram, "--ram"), None) if ram else (host_memory(), os.cpu_count())
    machine = Machine(device, count, nodes, memory, cores=cores)
    loaded = load_recipe(recipe, control=control)
    found = plan_recipe(loaded, machine, output or Path("runs") / loaded.name)
    exam = plan_eval(loaded, base_of(loaded), machine)
    if as_json:
        typer.echo(to_json(values_of(found, exam, machine), indent=2))
    else:
        print_plan(found, exam, machine, console())
