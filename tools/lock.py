"""Write constraints.txt: the version of every package that jmedllm needs, with the SHA-256 of its wheels.

    python tools/lock.py             # keeps the versions, and adds what pyproject.toml needs in addition
    python tools/lock.py --upgrade   # takes the newest versions; run the tests afterwards

uv resolves (`pip install uv packaging`). The same index gives the same file. It lists wheels for Linux on x86-64 and
ARM with Python 3.11 to 3.13, and no source archives: building one runs code of its author.
"""

import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints.txt"
PYTHONS = ((3, 11), (3, 12), (3, 13))
MACHINES = ("x86_64", "aarch64")
NEWEST_GLIBC = 39
LEFT_OUT = {"vllm", "torchvision"}
"""Extras that bring a PyTorch of their own choice."""

INSTALLERS = ("pip", "setuptools>=77")
"""What installs the packages, and what builds jmedllm."""

CPU_BUILDS = {"torch==2.13.0": ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",)}
"""SHA-256 of the CPU build that the tests ran with (cp311, x86-64), from https://download.pytorch.org/whl/cpu."""

HEADER = """\
# The packages that the tests ran with, each with the SHA-256 of its wheels. Written by tools/lock.py: do not edit.
# Install with `python tools/install.py`. A line "# bytes" has the size of the largest wheel for each kind of machine.
"""


def main(*options: str) -> None:
    """Resolve, check that there is a wheel for every kind of machine, and write the file."""
    packages = sorted(resolved(*options), key=lambda package: package["name"])
    missing = [line for package in packages for line in without_wheel(package)]
    if missing:
        sys.exit("\n".join(["no wheel:", *missing]))
    FILE.write_text(HEADER + "".join(map(entry, packages)), encoding="utf-8")
    print(f"{FILE}: {len(packages)} packages, {sum(len(wheels(package)) for package in packages)} wheels")


def resolved(*options: str) -> list[dict[str, Any]]:
    """Return the packages of a lock file (PEP 751) for all kinds of machine."""
    uv = shutil.which("uv") or sys.exit("tools/lock.py needs uv: pip install uv")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    with tempfile.TemporaryDirectory() as temporary:
        lock, installers = Path(temporary) / "pylock.toml", Path(temporary) / "installers.in"
        installers.write_text("\n".join(INSTALLERS), encoding="utf-8")
        command = [uv, "pip", "compile", "--quiet", "--no-config", "--universal", "--only-binary", ":all:"]
        command += ["--python-version", ".".join(map(str, PYTHONS[0])), "--output-file", str(lock)]
        command += [part for name in sorted(set(extras) - LEFT_OUT) for part in ("--extra", name)]
        if "--upgrade" not in options:
            versions = Path(temporary) / "versions.txt"
            versions.write_text("\n".join(pinned_versions()), encoding="utf-8")
            command += ["--constraints", str(versions)]
        subprocess.run([*command, str(ROOT / "pyproject.toml"), str(installers)], check=True)
        found = tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]
    return [package for package in found if package.get("marker") is None or list(targets(package))]


def pinned_versions() -> Iterator[str]:
    """Yield `name==version` of each package in constraints.txt."""
    for line in FILE.read_text(encoding="utf-8").splitlines() if FILE.exists() else ():
        if "==" in line and not line.startswith(("#", " ")):
            yield line.partition(" ")[0]


def targets(package: dict[str, Any]) -> Iterator[tuple[tuple[int, int], str]]:
    """Yield Python and machine of each target that needs the package."""
    for python in PYTHONS:
        for machine in MACHINES:
            values = {
                "python_version": ".".join(map(str, python)),
                "python_full_version": f"{python[0]}.{python[1]}.0",
            }
            values |= {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
            values |= {"platform_machine": machine, "implementation_name": "cpython"}
            if package.get("marker") is None or Marker(package["marker"]).evaluate(values):
                yield python, machine


def wheels(package: dict[str, Any], machines: Iterable[str] = MACHINES) -> list[dict[str, Any]]:
    """Return the wheels that one of the targets can install, by file name."""
    wanted = {tag for python in PYTHONS for machine in machines for tag in tags(python, machine)}
    found = {file_name(wheel): wheel for wheel in package["wheels"]}
    return [wheel for name, wheel in sorted(found.items()) if wanted & parse_wheel_filename(name)[3]]


def file_name(wheel: dict[str, Any]) -> str:
    """Return the file name of a wheel."""
    return str(wheel.get("name") or wheel["url"].rpartition("/")[2]).replace("%2B", "+")


def tags(python: tuple[int, int], machine: str) -> Iterator[Tag]:
    """Yield the tags of wheels that run on a target."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(NEWEST_GLIBC, 4, -1)]
    platforms += [f"manylinux{year}_{machine}" for year in ("2014", "2010", "1")] + [f"linux_{machine}"]
    yield from cpython_tags(python, platforms=platforms)
    yield from compatible_tags(python, interpreter=f"cp{python[0]}{python[1]}", platforms=platforms)


def without_wheel(package: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each target that needs the package and has no wheel."""
    for python, machine in targets(package):
        wanted = set(tags(python, machine))
        if not any(wanted & parse_wheel_filename(file_name(wheel))[3] for wheel in package["wheels"]):
            yield f"{package['name']} {package['version']}: Python {python[0]}.{python[1]}, {machine}"


def entry(package: dict[str, Any]) -> str:
    """Format a package: sizes, version, marker and hashes."""
    pin = f"{canonicalize_name(package['name'])}=={package['version']}"
    hashes = sorted({wheel["hashes"]["sha256"] for wheel in wheels(package)} | set(CPU_BUILDS.get(pin, ())))
    needing = {machine for _, machine in targets(package)}
    largest = {
        machine: max(wheel["size"] for wheel in wheels(package, [machine]))
        for machine in MACHINES
        if machine in needing
    }
    sizes = ", ".join(f"{machine} {size}" for machine, size in largest.items())
    everywhere = len(list(targets(package))) == len(PYTHONS) * len(MACHINES)
    marker = "" if everywhere else f" ; {package['marker']}"
    return (
        f"# bytes: {sizes}\n{pin}{marker} \\\n" + " \\\n".join(f"    --hash=sha256:{each}" for each in hashes) + "\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
