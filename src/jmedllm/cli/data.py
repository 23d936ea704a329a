"""The commands of `jmedllm data`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jmedllm.cli.ending import data_options, print_ending
from jmedllm.cli.options import Data, Proxy, Timeout, client_options
from jmedllm.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jmedllm.data.catalogue import Source
    from jmedllm.data.on_disk import OnDisk

AllowUnverified = Annotated[
    bool, typer.Option("--allow-unverified", help="Accept files whose checksum is not known, instead of stopping.")
]

data_app = typer.Typer(help="Benchmarks on disk: list them, fetch them, check them.", no_args_is_help=True)


@data_app.command("list")
def data_list(
    data: Data = Path("data"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List benchmarks: what is on disk, items, licence, upstream."""
    from jmedllm.cli.printing import console
    from jmedllm.data import listing
    from jmedllm.data.installed import is_installed, outside_benchmarks
    from jmedllm.data.on_disk import find_on_disk
    from jmedllm.files import to_json

    found, outside = find_on_disk(data), outside_benchmarks()
    if as_json:
        values = {"sources": listing.as_json(found), "others": listing.outside_as_json(outside, data)}
        typer.echo(to_json({"data": str(data), **values}, indent=2))
        return
    width = min(console().width, 120)
    typer.echo(listing.as_text(found, width))
    if outside:
        typer.echo(f"\n{listing.outside_as_text(outside, data, width)}")
    counts = {state: sum(each.state == state for each in found) for state in ("present", "part", "absent")}
    typer.echo(f"\n{data}: {counts['present']} present, {counts['part']} in part, {counts['absent']} absent")
    checkable = [each.name for each in outside if any(is_installed(one, data) for one in each.sources.values())]
    print_ending(*_after_list(found, checkable), *data_options(data))


def _after_list(found: "Sequence[OnDisk]", outside: "Sequence[str]") -> tuple[str, ...]:
    """Return the next command: complete a source, check what is there, or fetch a first source.

    Args:
        found: the sources, with what is on disk of each.
        outside: benchmarks of other packages that are on disk.
    """
    from jmedllm.data.on_disk import first_to_fetch

    part = next((each for each in found if each.state == "part"), None)
    if part is not None:
        return _get(part.source)
    some = [each.source for each in found if each.files]
    if not some and not outside:
        return "data", "get", first_to_fetch()
    return ("data", "check", "--allow-unverified") if any(each.unpinned for each in some) else ("data", "check")


def _get(source: "Source") -> tuple[str, ...]:
    """Return the command that fetches a source, with the options that it needs; the user replaces MIRROR."""
    mirror = ("--mirror", "MIRROR") if source.needs_mirror else ()
    return "data", "get", source.name, *mirror, *(("--allow-unverified",) if source.unpinned else ())


@data_app.command("get")
def data_get(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Source to fetch; `jmedllm data list` lists them.")],
    data: Data = Path("data"),
    mirror: Annotated[
        str | None,
        typer.Option(help="Folder or address (http, https, file) with the same files.", show_default="upstream"),
    ] = None,
    revision: Annotated[
        str | None,
        typer.Option(
            help="Commit, branch or tag of upstream; only for files without a known checksum.",
            show_default="the one that `data list` shows",
        ),
    ] = None,
    allow_unverified: AllowUnverified = False,
    proxy: Proxy = None,
    timeout: Timeout = None,
) -> None:
    """Fetch one source from upstream or a mirror and verify every file."""
    from jmedllm.data.catalogue import find
    from jmedllm.data.fetch import get
    from jmedllm.http_client import REPLY_MB
    from jmedllm.named_server import KEY_ENV

    unpinned = find(name).unpinned
    if unpinned and not allow_unverified:
        _warn_unverified(name, len(unpinned), "nothing was fetched; --allow-unverified fetches them anyway")
        raise typer.Exit(1)
    fetched = get(name, data, mirror, revision, client_options(KEY_ENV, proxy, timeout, REPLY_MB))
    new = sum(file.new for file in fetched)
    word = "not verified" if unpinned else "all verified"
    typer.echo(f"{name}: {new} files fetched, {len(fetched) - new} already there, {word}, in {data}")
    for file in fetched:
        if not file.verified:
            typer.echo(f"not verified: {file.path}: sha256 {file.sha256}", err=True)
    accepted = ("--allow-unverified",) if unpinned else ()
    print_ending("data", "check", name, *data_options(data), *accepted, wrote=(data,))


def _warn_unverified(name: str, files: int, rest: str) -> None:
    typer.secho(f"{name}: not verified: no checksum is known of {files} files; {rest}", err=True, fg="yellow")


@data_app.command("check")
def data_check(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Source to check; `jmedllm data list` lists them.",
            show_default="all that are on disk",
        ),
    ] = None,
    data: Data = Path("data"),
    allow_unverified: AllowUnverified = False,
) -> None:
    """Verify checksums and the number of items."""
    from jmedllm.data.catalogue import SOURCES, find
    from jmedllm.data.check import expected_counts

    names = [name] if name is not None else _on_disk(data)
    failed = [each for each in names if not _passes(each, data)]
    if failed:
        known = next((each for each in failed if each in SOURCES), None)
        outside = [each for each in failed if each not in SOURCES]
        fixes = [f"get the files as the package of {', '.join(outside)} describes"] if outside else []
        if known:
            fixes.append(f"run: {shlex.join(('jmedllm', *_get(find(known)), *data_options(data)))}")
        raise InputError(f"checks failed: {', '.join(failed)}; {'; '.join(fixes)}")
    sources = [find(each) for each in names if each in SOURCES]
    loose = {each.name: len(each.unpinned) for each in sources if each.unpinned}
    if loose and not allow_unverified:
        for each, files in loose.items():
            _warn_unverified(each, files, "--allow-unverified accepts them")
        raise typer.Exit(1)
    tests = [f"{row[0]}:{row[1]}" for each in sources for row in expected_counts(each) if row[2] == "test"]
    tests += [each for each in names if each not in SOURCES]
    print_ending(
        "eval", "--model", "MODEL", "--benchmark", tests[0] if tests else "BENCHMARK", *data_options(data),
        "--output", "results",
    )  # fmt: skip


def _on_disk(data: Path) -> list[str]:
    """Return the names of the sources, and of the benchmarks of other packages, that are on disk, at least in part."""
    from jmedllm.data.installed import is_installed, outside_benchmarks
    from jmedllm.data.on_disk import find_on_disk, first_to_fetch

    names = [each.source.name for each in find_on_disk(data) if each.files]
    outside = outside_benchmarks()
    names += [each.name for each in outside if any(is_installed(source, data) for source in each.sources.values())]
    if not names:
        run = shlex.join(("jmedllm", "data", "get", first_to_fetch(), *data_options(data)))
        raise InputError(f"{data}: no benchmark is here; fetch one with: {run}")
    return names


def _passes(name: str, data: Path) -> bool:
    """Check one source and print the outcome."""
    from jmedllm.data.check import check

    rows = check(name, data)
    bad = [row for row in rows if row.status in ("wrong", "missing")]
    for row in bad:
        typer.echo(f"{row.status}: {row.what}: expected {row.expected}, found {row.found}", err=True)
    if bad:
        typer.echo(f"{name}: {len(bad)} of {len(rows)} checks failed", err=True)
        return False
    loose = [row for row in rows if row.status == "not verified"]
    for row in loose:
        typer.echo(f"not verified: {row.what}: {row.expected}, found {row.found}", err=True)
    typer.echo(f"{name}: {len(rows) - len(loose)} checks passed" + f", {len(loose)} not verified" * bool(loose))
    return True
