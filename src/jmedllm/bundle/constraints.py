"""Read constraints.txt: the version of each package, the SHA-256 of its wheels, and their sizes.

`tools/lock.py` writes the file. This module needs Python only, because `tools/install.py` uses it before anything else
is installed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jmedllm.errors import InputError

NAME = "constraints.txt"

CHECKOUT = Path(__file__).parents[3] / NAME
"""The file in a clone of the repository."""

_SIZES = "# bytes: "


@dataclass(frozen=True, slots=True)
class Pin:
    """One version of a package.

    Attributes:
        name: its canonical name.
        version: its version.
        hashes: SHA-256 of the wheels that may be installed, in hex.
        sizes: bytes of the largest wheel by kind of machine, such as x86_64.
    """

    name: str
    version: str
    hashes: tuple[str, ...]
    sizes: Mapping[str, int]

    def requirement(self, build: str | None = None) -> str:
        """Return the line of a requirements file that accepts these wheels only.

        Args:
            build: the local version of one build, such as +cpu, or empty for the build without one; None for any.
        """
        version = f"=={self.version}" if build is None else f"==={self.version}{build}"
        return f"{self.name}{version} " + " ".join(f"--hash=sha256:{each}" for each in self.hashes)


def read_constraints(file: Path) -> dict[str, Pin]:
    """Return the pins of a file by canonical name.

    Raises:
        InputError: the file cannot be read, or a package has no version or no hash.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}; give {NAME} of a clone of jmedllm") from error
    pins, sizes = dict[str, Pin](), dict[str, int]()
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith(_SIZES):
            sizes = {machine: int(size) for machine, size in re.findall(r"(\w+) (\d+)", line.removeprefix(_SIZES))}
        elif line.strip() and not line.startswith("#"):
            pin = _pin(line, sizes, file)
            pins[pin.name], sizes = pin, {}
    return pins


def write_versions(pins: Mapping[str, Pin], file: Path) -> Path:
    """Write the versions without hashes, for `pip --constraint`, which would else want a hash of every package."""
    file.write_text("".join(f"{pin.name}=={pin.version}\n" for pin in pins.values()), encoding="utf-8")
    return file


def canonical(name: str) -> str:
    """Return the name of a package in its canonical spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _pin(line: str, sizes: Mapping[str, int], file: Path) -> Pin:
    requirement, *hashes = line.split(" --hash=")
    name, separator, version = requirement.partition(";")[0].strip().partition("==")
    if not separator or not hashes or not all(re.fullmatch(r"sha256:[0-9a-f]{64}\s*", each) for each in hashes):
        raise InputError(f"{file}: {requirement.strip()}: has no version or no SHA-256; write it with tools/lock.py")
    return Pin(canonical(name), version, tuple(each.strip().removeprefix("sha256:") for each in hashes), sizes)
