"""The commands of `jmedllm data`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.options import Data
from jmedllm.errors import InputError

AllowUnverified = Annotated[bool, typer.Option("--allow-unverified", help="Accept files whose checksum is not known.")]

data_app = typer.Typer(help="Benchmarks on disk: what there is, get it, check it.", no_args_is_help=True)


@data_app.command("list")
def data_list() -> None:
    """What can be got: licence, upstream, revision, items."""
    from jmedllm.data.listing import listing

    typer.echo(listing())


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(help="One of `jmedllm data list`.")],
    data: Data = Path("data"),
    mirror: Annotated[str | None, typer.Option(help="Folder or URL that holds the same files.")] = None,
    revision: Annotated[str | None, typer.Option(help="Revision of an upstream that is not pinned.")] = None,
    allow_unverified: AllowUnverified = False,
) -> None:
    """Fetch one source from upstream or a mirror and verify every file."""
    from jmedllm.data.catalogue import find
    from jmedllm.data.fetch import get

    unpinned = find(name).unpinned
    if unpinned and not allow_unverified:
        _not_verified(name, len(unpinned), "nothing was fetched; --allow-unverified fetches them all the same")
        raise typer.Exit(1)
    fetched = get(name, data, mirror, revision)
    new = sum(file.new for file in fetched)
    word = "not verified" if unpinned else "all verified"
    typer.echo(f"{name}: {new} files fetched, {len(fetched) - new} already there, {word}, in {data}")
    for file in fetched:
        if not file.verified:
            typer.echo(f"not verified: {file.path}: sha256 {file.sha256}", err=True)


def _not_verified(name: str, files: int, rest: str) -> None:
    typer.secho(f"{name}: not verified: no checksum is known of {files} files; {rest}", err=True, fg="yellow")


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="One of `jmedllm data list`.")],
    data: Data = Path("data"),
    allow_unverified: AllowUnverified = False,
) -> None:
    """Verify checksums and the number of items."""
    from jmedllm.data.catalogue import find
    from jmedllm.data.check import check

    rows = check(name, data)
    bad = [row for row in rows if row.status in ("wrong", "missing")]
    for row in bad:
        typer.echo(f"{row.status}: {row.what}: expected {row.expected}, found {row.found}", err=True)
    if bad:
        raise InputError(f"{name}: {len(bad)} of {len(rows)} checks failed; run: jmedllm data get {name}")
    loose = [row for row in rows if row.status == "not verified"]
    for row in loose:
        typer.echo(f"not verified: {row.what}: {row.expected}, found {row.found}", err=True)
    typer.echo(f"{name}: {len(rows) - len(loose)} checks passed" + f", {len(loose)} not verified" * bool(loose))
    unpinned = find(name).unpinned
    if unpinned and not allow_unverified:
        _not_verified(name, len(unpinned), "--allow-unverified accepts them")
        raise typer.Exit(1)
