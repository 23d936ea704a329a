"""Wheels of a training bundle: versions and hashes are those of constraints.txt."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

from jmedllm.bundle.constraints import Pin, canonical
from jmedllm.bundle.target import Target
from jmedllm.bundle.wheels import closure, get_wheels, require_pip
from jmedllm.errors import InputError

_CPU_BUILD = (
    " (the build of PyTorch for CPUs is not on every index: set "
    "PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu, or take the CUDA build with --gpu, which also runs "
    "without a GPU)"
)


def resolve_wheels(
    requirements: Sequence[str], target: Target, pins: Mapping[str, Pin], builds: Mapping[str, str], local: Path | None
) -> dict[str, str]:
    """Return the packages that the target needs: the line of a requirements file by name. pip installs nothing.

    Args:
        requirements: the packages that are asked for.
        target: the machine that installs them.
        pins: version and hashes of each package.
        builds: local version of the build to take, such as +cpu, by package.
        local: folder that has the wheels; no index is asked.

    Raises:
        InputError: a package is not in the constraints, or pip does not find its wheel.
    """
    require_pip()
    needs, lines = dict[str, list[str]](), dict[str, str]()

    def required_by(name: str) -> list[str]:
        return needs.get(name, [])

    wanted = closure(requirements, required_by, target)
    while missing := [name for name in wanted if name not in lines]:
        found = {name: _line(name, wanted[name], pins, builds) for name in missing}
        needs.update(_requirements(found.values(), target, local))
        lines.update(found)
        wanted = closure(requirements, required_by, target)
    return {name: lines[name] for name in sorted(wanted)}


def download_locked(lines: Mapping[str, str], target: Target, folder: Path, local: Path | None) -> None:
    """Download the wheels of these lines and verify their hashes. Complete wheels in the folder are not loaded again.

    Raises:
        InputError: pip does not find a wheel, or its hash is not in the constraints.
    """
    with TemporaryDirectory() as temporary:
        _pip(lines.values(), target, local, ["download", "--dest", str(folder)], Path(temporary))


def _line(name: str, need: Requirement, pins: Mapping[str, Pin], builds: Mapping[str, str]) -> str:
    if name not in pins:
        raise InputError(f"{name}: is not in constraints.txt; add it with tools/lock.py")
    if not need.specifier.contains(pins[name].version, prereleases=True):
        raise InputError(f"{name}: constraints.txt has {pins[name].version}, and the bundle needs {need}")
    return pins[name].requirement(builds.get(name))


def _requirements(lines: Iterable[str], target: Target, local: Path | None) -> dict[str, list[str]]:
    """Return what packages need themselves, by name, as the metadata of their wheels state it."""
    with TemporaryDirectory() as temporary:
        report = Path(temporary) / "report.json"
        action = ["install", "--dry-run", "--ignore-installed", "--report", str(report), "--target", temporary]
        _pip(lines, target, local, action, Path(temporary))
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    return {
        canonical(package["metadata"]["name"]): package["metadata"].get("requires_dist") or [] for package in found
    }


def _pip(lines: Iterable[str], target: Target, local: Path | None, action: Sequence[str], folder: Path) -> None:
    given = folder / "requirements.txt"
    given.write_text("\n".join(lines), encoding="utf-8")
    try:
        get_wheels(["--require-hashes", "--requirement", str(given)], target, local, action)
    except InputError as error:
        raise InputError(f"{error}{_CPU_BUILD}" if "+cpu" in str(error) else str(error)) from error
