"""The commands of `jmedllm canary`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jmedllm.cli.ending import print_ending
from jmedllm.cli.options import AsJson, Device, IgnoreAdapter, Precision, Threads
from jmedllm.errors import InputError

if TYPE_CHECKING:
    from jmedllm.canary.check import Checked

canary_app = typer.Typer(help="Test whether a name can be drawn from the weights.", no_args_is_help=True)


@canary_app.command("plant")
def canary_plant(
    corpus: Annotated[
        list[Path],
        typer.Option(help="Training data: a corpus, other text, or .jsonl files of stage 2; repeat for several."),
    ],
    output: Annotated[Path, typer.Option(help="Directory for the copy with canaries and for the secret list.")],
    count: Annotated[int, typer.Option(min=1, help="Canaries, and as many controls that are planted nowhere.")] = 24,
    copies: Annotated[
        str, typer.Option(help="In how many documents a canary is, separated by commas: each number in turn.")
    ] = "1,4,16",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the canaries and their places.")] = 0,
    field: Annotated[str, typer.Option(help="Key of the text in .jsonl files.")] = "text",
    as_json: AsJson = False,
) -> None:
    """Put made-up identifiers into a copy of training data."""
    from jmedllm.canary.plant import MARK, PlantConfig, plant
    from jmedllm.canary.secret_list import NAME
    from jmedllm.files import read_json, to_json
    from jmedllm.settings import from_options

    config = from_options(PlantConfig, count=count, copies=_numbers(copies), seed=seed)
    planted = plant(config, corpus, output, field)
    if as_json:
        typer.echo(to_json(read_json(output / MARK), indent=2))
        return
    typer.echo(
        f"{count:,} canaries in {planted.copies:,} copies; {planted.changed:,} of {planted.units:,} documents contain "
        f"one ({planted.kind})"
    )
    if planted.kind == "questions":
        typer.secho(
            "the canaries are in questions, which stage 2 reads as prompts and does not train", err=True, fg="yellow"
        )
    if planted.skipped:
        typer.secho(f"{planted.skipped:,} files or lines could not be read and are left out", err=True, fg="yellow")
    print_ending("canary", "check", "--model", "MODEL", "--secrets", output / NAME, wrote=(output, output / NAME))


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise InputError(f"--copies {text!r}: write numbers separated by commas, such as 1,4,16")
    return [int(part) for part in parts]


@canary_app.command("check")
def canary_check(
    model: Annotated[str, typer.Option(help="Model: directory, or id in the local Hugging Face cache.")],
    secrets: Annotated[Path, typer.Option(help="Secret list that `canary plant` wrote.")],
    adapter: Annotated[
        Path | None,
        typer.Option(help="Directory of an adapter that was trained on this model.", show_default="none"),
    ] = None,
    ignore_adapter: IgnoreAdapter = False,
    candidates: Annotated[
        int,
        typer.Option(help="Other secrets to rank each among; all of its form, if there are no more."),
    ] = 1000,
    beams: Annotated[int, typer.Option(help="Width of the beam search.")] = 5,
    precision: Precision = "auto",
    device: Device = "auto",
    threads: Threads = None,
    as_json: AsJson = False,
) -> None:
    """Measure how much of the canaries a model has memorized."""
    from jmedllm.canary.check import CheckConfig, check
    from jmedllm.canary.secret_list import read_secrets
    from jmedllm.files import to_json
    from jmedllm.models.adapters import quantization_of, require_adapter
    from jmedllm.models.backends.base import ModelSpec
    from jmedllm.models.folder import resolve
    from jmedllm.settings import from_options

    config = from_options(CheckConfig, candidates=candidates, beams=beams)
    found = read_secrets(secrets)
    folder = resolve(model)
    if adapter is not None:
        require_adapter(adapter, folder)
    from jmedllm.precision import choose_precision

    spec = ModelSpec(
        str(folder),
        Path(model).name,
        precision=choose_precision(precision, device, threads),
        adapter=adapter,
        ignore_adapter=ignore_adapter,
        quantization=quantization_of(adapter) if adapter else None,
    )
    (checked,) = check(spec, [found], config)
    if as_json:
        typer.echo(to_json(checked.as_json(), indent=2))
        return
    print_checked(checked)


def print_checked(checked: "Checked") -> None:
    """Print the table of a check."""
    from jmedllm.canary.table import conclusion, explanation, table

    typer.echo(f"{checked.model}: {explanation(checked)}\n")
    for line in table(checked):
        typer.echo(line)
    typer.echo(f"\n{conclusion(checked)}")
