"""`jmedllm audit`."""

import json
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Annotated

import typer

from jmedllm.cli.options import AsJson


def audit(
    advisories: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="Advisories in the format of OSV: all.zip of osv.dev, or a JSON file or directory."
        ),
    ],
    constraints: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Lock file (constraints.txt) whose versions are checked.",
            show_default="installed packages",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List known security advisories of the packages, from a file."""
    from jmedllm.bundle.advisories import find_advisories, read_advisories
    from jmedllm.bundle.constraints import canonical, read_constraints

    if constraints is None:
        packages = {canonical(each.metadata["Name"]): each.version for each in distributions()}
    else:
        packages = {name: pin.version for name, pin in read_constraints(constraints).items()}
    read = read_advisories(advisories)
    found = find_advisories(read, packages)
    newest = max(str(each["modified"]) for each in read)[:10]
    if as_json:
        counts = {"packages": len(packages), "advisories": len(read), "newest": newest}
        typer.echo(json.dumps({**counts, "findings": [asdict(each) for each in found]}, ensure_ascii=False))
    else:
        for each in found:
            names = ", ".join((each.id, *each.aliases))
            fixed = f"fixed in {', '.join(each.fixed)}" if each.fixed else "no fixed version"
            typer.echo(f"{each.package} {each.version}: {names}: affected {each.affected}; {fixed}: {each.summary}")
        typer.echo(
            f"{len(packages)} packages, {len(read)} advisories (the newest of {newest}): {len(found)} "
            f"{'finding' if len(found) == 1 else 'findings'}"
        )
    raise typer.Exit(1 if found else 0)
