"""Wheels for another machine: download, what they need, and their licences."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from jmedllm import offline
from jmedllm.bundle.component import Component
from jmedllm.bundle.licences import licence_of_package
from jmedllm.bundle.native_parts import native_parts
from jmedllm.bundle.target import Target
from jmedllm.errors import InputError
from jmedllm.files import hash_file

INDEX = "pypi.org"
"""Package index of pip, unless its configuration names another one."""

_LICENCE_FILES = ("license", "licence", "copying", "notice", "authors")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel on disk.

    Attributes:
        file: the wheel.
        metadata: its core metadata.
        sha256: its SHA-256 in hex.
        texts: its licences and notices by path in the wheel.
    """

    file: Path
    metadata: Message
    sha256: str
    texts: dict[str, bytes]

    @property
    def name(self) -> str:
        """Name of the package in its canonical spelling."""
        return str(canonicalize_name(self.metadata["Name"]))

    @property
    def version(self) -> str:
        """Version of the package."""
        return str(self.metadata["Version"])

    @property
    def requires(self) -> list[str]:
        """Its requirements with their markers."""
        return [str(text) for text in self.metadata.get_all("Requires-Dist") or ()]

    @property
    def pin(self) -> str:
        """The line of a requirements file that accepts this wheel only."""
        return f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n"

    def component(self) -> Component:
        """Return the wheel as a part of a bundle, which has it in the folder `wheels`."""
        return Component(
            "library",
            self.name,
            self.version,
            licence_of_package(self.metadata, list(self.texts.values())),
            self.sha256,
            f"wheels/{self.file.name}",
            texts=self.texts,
            parts=native_parts(self.file) if self.name == "xllamacpp" else (),
        )


def read_wheel(file: Path) -> Wheel:
    """Read name, licence and requirements of a wheel.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with ZipFile(file) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
            parsed = BytesParser().parsebytes(archive.read(metadata))
            texts = {name: archive.read(name) for name in names if _has_licence(name)}
    except (BadZipFile, StopIteration) as error:
        raise InputError(f"{file}: is not a complete wheel; remove it and run the command again") from error
    return Wheel(file, parsed, hash_file(file), texts)


def _has_licence(name: str) -> bool:
    file = name.rpartition("/")[2].lower()
    return not file.endswith((".py", ".so")) and (".dist-info/licenses/" in name or file.startswith(_LICENCE_FILES))


def download_wheels(
    requirements: Sequence[str], target: Target, folder: Path, local: Path | None = None
) -> list[Wheel]:
    """Put the wheels of some packages and of everything they need into a folder.

    Packages that are installed here have the same version there, so that the bundle runs what was tried here. pip does
    not look for what they need, because it would read environment markers for this Python and not for the target's.

    Args:
        requirements: the packages.
        target: the machine that installs them.
        folder: where to put the wheels.
        local: folder that has the wheels; no index is asked.

    Raises:
        InputError: pip is missing, or it does not find a wheel.
    """
    require_pip()
    wheels = dict[str, Wheel]()
    wanted = closure(requirements, _installed_requirements, target)
    while missing := [need for name, need in wanted.items() if name not in wheels]:
        get_wheels([_pinned(need) for need in missing], target, local, ["download", "--dest", str(folder)])
        wheels = {wheel.name: wheel for wheel in map(read_wheel, sorted(folder.glob("*.whl")))}
        wanted = closure(requirements, _requirements_of(wheels), target)
    for name in set(wheels) - set(wanted):  # a package that the target's version does not need
        wheels.pop(name).file.unlink()
    return list(wheels.values())


def require_pip() -> None:
    """Check that pip is installed.

    Raises:
        InputError: it is not.
    """
    if find_spec("pip") is None:
        raise InputError("a bundle needs pip; install it with: python -m ensurepip")


def closure(
    requirements: Iterable[str], requires: Callable[[str], Iterable[str]], target: Target
) -> dict[str, Requirement]:
    """Return packages and all that they need on the target, by their canonical name.

    Args:
        requirements: the packages.
        requires: returns the requirements of a package, with their markers.
        target: the machine for which markers are read.
    """
    found, seen = dict[str, Requirement](), set[tuple[str, str]]()
    queue = list(map(Requirement, requirements))
    while queue:
        need = queue.pop()
        name = str(canonicalize_name(need.name))
        found.setdefault(name, need)
        for extra in {"", *need.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            queue += [child for child in map(Requirement, requires(name)) if _applies(child, extra, target)]
    return found


def _applies(need: Requirement, extra: str, target: Target) -> bool:
    if need.marker is None:
        return not extra  # found already without the extra
    return need.marker.evaluate(target.markers | {"extra": extra})


def _installed_requirements(name: str) -> list[str]:
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        return []


def _requirements_of(wheels: Mapping[str, Wheel]) -> Callable[[str], list[str]]:
    return lambda name: wheels[name].requires if name in wheels else []


def _pinned(need: Requirement) -> str:
    """Return the requirement of the version that is installed here; as it is if none is."""
    try:
        return f"{need.name}=={Version(distribution(need.name).version).public}"  # indexes have no local versions
    except PackageNotFoundError:
        return f"{need.name}{need.specifier}"


def get_wheels(requirements: Sequence[str], target: Target, local: Path | None, action: Sequence[str]) -> None:
    """Let pip find wheels for another machine, without what they need themselves.

    Args:
        requirements: the packages, or options that name a file of them.
        target: the machine that installs them.
        local: folder that has the wheels; no index is asked.
        action: what pip does with them, with its options.

    Raises:
        InputError: pip does not find a wheel.
    """
    if local is None:
        offline.allow(INDEX, "names of packages, through pip and the indexes that it is configured for,")
    command = [sys.executable, "-m", "pip", *action, "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--python-version", target.python, "--implementation", "cp"]
    command += [part for name in target.platforms for part in ("--platform", name)]
    command += ["--no-index", "--find-links", str(local)] if local else []
    done = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it gave no reason"]
        said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        reason = lines[-1] if not said or said[-1] == "Exception:" else said[-1]  # a traceback ends with its error
        fix = f"add it to {local}" if local else "check the network, or give the wheels with --wheels DIRECTORY"
        raise InputError(
            f"pip cannot get the wheels for Python {target.python} on {target.platforms[0]}: {reason}; {fix}"
        )
