"""Wheels for another machine: download, what they need, and their licences."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from jmedllm.bundle.component import Component
from jmedllm.bundle.licences import licence_of_package, llama_cpp
from jmedllm.bundle.target import Target
from jmedllm.errors import InputError
from jmedllm.files import hash_file

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
            parts=(llama_cpp(self.file),) if self.name == "xllamacpp" else (),
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

    Packages that are installed here have the same version there, so that the bundle runs what was tried here.

    Args:
        requirements: the packages.
        target: the machine that installs them.
        folder: where to put the wheels.
        local: folder that has the wheels; no index is asked.

    Raises:
        InputError: pip is missing, or it does not find a wheel.
    """
    if find_spec("pip") is None:
        raise InputError("a bundle needs pip; install it with: python -m ensurepip")
    wanted, wheels = list(requirements), list[Wheel]()
    while wanted:  # pip reads the markers of requirements for this Python, not for the target's
        _download(wanted, target, folder, local)
        wheels = [read_wheel(file) for file in sorted(folder.glob("*.whl"))]
        wanted = missing(wheels, target)
    return wheels


def missing(wheels: Iterable[Wheel], target: Target) -> list[str]:
    """Return the requirements of wheels, without extras, that no other wheel meets."""
    found = {wheel.name: wheel for wheel in wheels}
    needs = [Requirement(text) for wheel in found.values() for text in wheel.metadata.get_all("Requires-Dist") or ()]
    return sorted(
        {
            str(need)
            for need in needs
            if (need.marker is None or need.marker.evaluate(target.markers))
            and canonicalize_name(need.name) not in found
        }
    )


def _download(requirements: Sequence[str], target: Target, folder: Path, local: Path | None) -> None:
    with TemporaryDirectory(prefix="jmedllm-pins-") as temporary:
        pins = Path(temporary) / "pins.txt"
        pins.write_text("".join(installed_pins()), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--only-binary=:all:", "--python-version", target.python, "--implementation", "cp"]
        command += [part for name in target.platforms for part in ("--platform", name)]
        command += ["--constraint", str(pins), "--dest", str(folder)]
        command += ["--no-index", "--find-links", str(local)] if local else []
        done = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or ["it gave no reason"]
        fix = f"add it to {local}" if local else "check the network, or give the wheels with --wheels DIRECTORY"
        raise InputError(
            f"pip finds no wheels for Python {target.python} on {target.platforms[0]}: "
            f"{said[0].removeprefix('ERROR: ')}; {fix}"
        )


def installed_pins() -> list[str]:
    """Return the lines of a constraints file with the versions that are installed here."""
    pins = set()
    for each in distributions():
        try:
            version = Version(each.version).public  # an index has no local versions, such as 2.13.0+cpu
        except (InvalidVersion, TypeError):  # left behind by an interrupted pip
            continue
        if each.name != "jmedllm":
            pins.add(f"{canonicalize_name(each.name)}=={version}\n")
    return sorted(pins)
