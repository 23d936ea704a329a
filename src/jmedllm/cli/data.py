"""The commands of `jmedllm data`."""

from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.options import Data
from jmedllm.errors import InputError

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
) -> None:
    """Fetch one source from upstream or a mirror and verify every file."""
    from jmedllm.data.fetch import get

    fetched = get(name, data, mirror, revision)
    new = sum(file.new for file in fetched)
    typer.echo(f"{name}: {new} files fetched, {len(fetched) - new} already there, all verified, in {data}")


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="One of `jmedllm data list`.")], data: Data = Path("data")
) -> None:
    """Verify checksums and the number of items."""
    from jmedllm.data.check import check

    rows = check(name, data)
    bad = [row for row in rows if row.verdict in ("wrong", "missing")]
    for row in bad:
        typer.echo(f"{row.verdict}: {row.what}: expected {row.expected}, found {row.found}", err=True)
    if bad:
        raise InputError(f"{name}: {len(bad)} of {len(rows)} checks failed; run: jmedllm data get {name}")
    typer.echo(f"{name}: {len(rows)} checks passed")
