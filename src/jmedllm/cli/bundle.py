"""`jmedllm bundle`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jmedllm.cli.ending import print_ending
from jmedllm.cli.options import TargetPlatform, TargetPython, WheelFolder, split

if TYPE_CHECKING:
    from jmedllm.bundle.contents import Contents


def bundle(
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder to write.")],
    recipe: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Recipe to include; repeatable.", exists=True, dir_okay=False, show_default="none"
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Model directory, or id of a model in the local Hugging Face cache; repeatable.",
            show_default="none",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Data directory or file; repeatable.", show_default="none"),
    ] = None,
    extras: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Extras of jmedllm, such as gguf,deid.", show_default="none"),
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="CUDA build of PyTorch, and the extra gpu.")] = False,
    python: TargetPython = None,
    platform: TargetPlatform = None,
    wheels: WheelFolder = None,
    constraints: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Lock file with versions and hashes of packages.", show_default="that of the clone"
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Print packages, sizes and what is left out; write nothing.")
    ] = False,
) -> None:
    """Pack what a machine without a network needs to train and evaluate."""
    from jmedllm.bundle.constraints import CHECKOUT, read_constraints
    from jmedllm.bundle.contents import gather
    from jmedllm.bundle.install import FACTS
    from jmedllm.bundle.locked_wheels import resolve_wheels
    from jmedllm.bundle.target import parse_target, this_python, usual_platform
    from jmedllm.bundle.training_bundle import extra_requirements, require_room, sizes_of, write_training_bundle
    from jmedllm.files import require_ours
    from jmedllm.recipe_file import load_recipe

    target = parse_target(python or this_python(), platform or usual_platform())
    lock = constraints or CHECKOUT
    pins = read_constraints(lock)
    require_ours(output, FACTS)
    for each in recipe or ():
        load_recipe(each)
    contents = gather(recipe or (), model or (), data or ())
    named = split(extras) if extras else []
    requirements = extra_requirements([*named, *(["gpu"] if gpu and "gpu" not in named else [])])
    lines = resolve_wheels(requirements, target, pins, {"torch": "" if gpu else "+cpu"}, wheels)
    sizes = sizes_of(contents, lines, pins, target)
    typer.echo(f"recipes, models and data: {len(contents.files)} files, {sizes.contents / 1e6:,.0f} MB")
    typer.echo(
        f"packages: {len(lines)} wheels for Python {target.python} on {target.platforms[0]}, "
        f"at most {sizes.wheels / 1e6:,.0f} MB"
    )
    _print_limits(contents)
    require_room(sizes, output)
    if check:
        typer.echo("".join(f"{line.partition(' ')[0]}\n" for line in lines.values()), nl=False)
        return
    written = write_training_bundle(contents, lines, output, target, wheels, lock)
    typer.echo(f"{written.files} files, {written.size / 1e6:,.0f} MB")
    for name in written.without_licence:
        typer.echo(f"licence not stated (NOASSERTION): {name}; ask its author before you pass the bundle on")
    typer.echo(f"parts without a stated licence: {len(written.without_licence)}")
    typer.echo(f"SHA-256 of SHA256SUMS, for the receiver to compare: {written.sha256}")
    print_ending(output / "install.sh", "--venv", "DIR", wrote=(output,), program="sh")


def _print_limits(contents: "Contents") -> None:
    for line in contents.left_out:
        typer.echo(f"not included: {line}")
    if not contents.models:
        typer.echo("not included: a model; add one with --model")
    if contents.texts:
        typer.echo(f"data/ has {len(contents.texts)} files of text, which may be about patients: keep copies private")
