"""The machine for which wheels are chosen."""

import platform
import re
import sys
from dataclasses import dataclass

from jmedllm.errors import InputError

_ALIASES = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
"""Older names of platforms, by the version of glibc."""

_PLATFORM = re.compile(r"manylinux_(\d+)_(\d+)_(x86_64|aarch64)")

_OLDEST_GLIBC = 5
"""Minor version of the oldest glibc for which there is a platform."""


@dataclass(frozen=True, slots=True)
class Target:
    """A Python on a kind of Linux.

    Attributes:
        python: version of CPython, such as 3.11.
        glibc: version of glibc, such as (2, 28).
        machine: x86_64 or aarch64.
    """

    python: str
    glibc: tuple[int, int]
    machine: str

    @property
    def platforms(self) -> list[str]:
        """Platforms of the wheels that run there, the newest first."""
        major, newest = self.glibc
        names = []
        for minor in range(newest, _OLDEST_GLIBC - 1, -1):
            names.append(f"manylinux_{major}_{minor}_{self.machine}")
            if alias := _ALIASES.get((major, minor)):
                names.append(f"{alias}_{self.machine}")
        return names

    @property
    def markers(self) -> dict[str, str]:
        """Values of the environment markers of requirements there."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "os_name": "posix",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "platform_machine": self.machine,
            "extra": "",
        }


def this_python() -> str:
    """Return the version of Python that runs, such as 3.11."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def usual_platform() -> str:
    """Return a platform of this kind of machine that Linux distributions since 2018 support."""
    return f"manylinux_2_28_{platform.machine()}"


def parse_target(python: str, name: str) -> Target:
    """Parse the options `--python` and `--platform`.

    Raises:
        InputError: jmedllm does not run there, or the name is not one of manylinux.
    """
    if not re.fullmatch(r"3\.(1[1-9]|[2-9]\d)", python):
        raise InputError(f"--python {python}: jmedllm needs a version of Python from 3.11, such as {this_python()}")
    for glibc, alias in _ALIASES.items():
        name = name.replace(f"{alias}_", f"manylinux_{glibc[0]}_{glibc[1]}_")
    match = _PLATFORM.fullmatch(name)
    if match is None:
        raise InputError(f"--platform {name}: give a platform of Linux, such as manylinux_2_28_x86_64")
    return Target(python, (int(match[1]), int(match[2])), match[3])
