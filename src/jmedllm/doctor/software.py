"""Python, torch, the packages and their licences."""

import re
import sys
from collections.abc import Iterator, Mapping
from email.message import Message
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import jmedllm
from jmedllm.bundle.constraints import CHECKOUT, read_constraints
from jmedllm.bundle.licences import licence_of_package
from jmedllm.doctor.check import Check

_SECTION = "software"

_PYTHON = ((3, 11), (3, 13))
"""First and last version of Python that is tested."""

_RESTRICTED = re.compile(r"GPL|GNU|Proprietary|Other/|NonCommercial|CC-BY-NC|NVIDIA", re.IGNORECASE)
"""Licences with conditions on what is built with the package."""

_NAMED = 4
"""Number of packages that a line names."""


def check_software() -> Iterator[Check]:
    """Check Python, torch, required packages, extras, the tested versions and the licences."""
    yield _python()
    yield Check(_SECTION, "jmedllm", "ok", f"{jmedllm.__version__} in {Path(jmedllm.__file__).parent}")
    yield _torch()
    yield _required()
    yield from _extras()
    if CHECKOUT.is_file():
        yield _tested({pin.name: pin.version for pin in read_constraints(CHECKOUT).values()})
    yield _licences()


def _python() -> Check:
    found = f"{sys.version.split()[0]} ({sys.executable})"
    first, last = (".".join(map(str, version)) for version in _PYTHON)
    if not _PYTHON[0] <= sys.version_info[:2] <= _PYTHON[1]:
        return Check(_SECTION, "Python", "fix", found, f"create an environment with Python {first} to {last}")
    return Check(_SECTION, "Python", "ok", found)


def torch_build() -> tuple[str, str | None] | None:
    """Return the version of torch and that of the CUDA or ROCm it was built for; None if torch is not installed."""
    installed = _installed("torch")
    if installed is None:
        return None
    file = Path(str(installed.locate_file("torch/version.py")))  # to import torch takes seconds
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    built = re.search(r"^(?:cuda|hip)\b[^=\n]*=\s*'([^']+)'", text, re.MULTILINE)
    return installed.version, built and built[1]


def _torch() -> Check:
    build = torch_build()
    if build is None:
        return Check(
            _SECTION, "torch", "fix", "not installed", "pip install torch; only a server of GGUF files needs none"
        )
    version, cuda = build
    return Check(_SECTION, "torch", "ok", f"{version}, {f'built for CUDA or ROCm {cuda}' if cuda else 'for the CPU'}")


@cache
def _requirements() -> tuple[tuple[str, Requirement], ...]:
    """Return (extra or "", requirement) for what jmedllm needs in this Python."""
    found = []
    for text in requires("jmedllm") or ():
        requirement = Requirement(text)
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", str(requirement.marker or ""))
        name = extra[1] if extra else ""
        if requirement.marker is None or requirement.marker.evaluate({"extra": name}):
            found.append((name, requirement))
    return tuple(found)


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _state(requirement: Requirement) -> str:
    """Return the version of a package with the problem, if there is one."""
    installed = _installed(requirement.name)
    if installed is None:
        return f"{requirement.name} is not installed"
    if not requirement.specifier.contains(installed.version, prereleases=True):
        return f"{requirement.name} {installed.version} is not {requirement.specifier}"
    return ""


def _required() -> Check:
    needed = [requirement for extra, requirement in _requirements() if not extra]
    problems = [problem for requirement in needed if (problem := _state(requirement))]
    if not problems:
        return Check(_SECTION, "required", "ok", f"{len(needed)} packages in versions that fit")
    words = " ".join(f"'{each.name}{each.specifier}'" for each in needed if _state(each))
    return Check(_SECTION, "required", "fix", _listed(problems), f"pip install {words}")


def _extras() -> Iterator[Check]:
    extras: dict[str, list[Requirement]] = {}
    for extra, requirement in _requirements():
        if extra not in ("", "dev"):
            extras.setdefault(extra, []).append(requirement)
    absent = []
    for extra, needed in extras.items():
        missing = [each for each in needed if _installed(each.name) is None]
        if missing:
            absent.append(f"{extra} ({', '.join(each.name for each in missing)})")
            continue
        problems = [problem for each in needed if (problem := _state(each))]
        words = " ".join(f"'{each.name}{each.specifier}'" for each in needed if _state(each))
        versions = ", ".join(f"{each.name} {found.version}" for each in needed if (found := _installed(each.name)))
        if problems:
            yield Check(_SECTION, f"[{extra}]", "fix", _listed(problems), f"pip install {words}")
        else:
            yield Check(_SECTION, f"[{extra}]", "ok", versions)
    if absent:
        yield Check(_SECTION, "other extras", "ok", f"not installed: {'; '.join(absent)}")


def _tested(versions: Mapping[str, str]) -> Check:
    """Compare what is installed with the tested versions by name."""
    installed = {name: found.version for name in versions if (found := _installed(name))}
    others = [
        f"{name} {version} (tested: {versions[name]})"
        for name, version in installed.items()
        if version.partition("+")[0] != versions[name].partition("+")[0]
    ]
    if not others:
        return Check(_SECTION, "versions", "ok", f"{len(installed)} packages as tested (constraints.txt)")
    fix = "if something fails, install the tested versions: python tools/install.py"
    return Check(_SECTION, "versions", "warning", _listed(others), fix)


def _licences() -> Check:
    found: dict[str, str | None] = {}
    for each in distributions():
        name = canonicalize_name(each.metadata["Name"] or "")
        if name:
            found[name] = licence_of_package(_metadata(each), _licence_texts(each))
    unknown = sorted(name for name, licence in found.items() if licence is None)
    restricted = sorted(f"{name} ({licence})" for name, licence in found.items() if _RESTRICTED.search(licence or ""))
    summary = f"{len(found)} packages"
    if restricted:
        summary += f"; with conditions: {_listed(restricted)}"
    if unknown:
        summary += f"; not stated: {_listed(unknown)}"
    if not restricted and not unknown:
        return Check(_SECTION, "licences", "ok", f"{summary}: none is GPL, proprietary or not stated")
    return Check(_SECTION, "licences", "warning", summary, "read these licences before you pass on a bundle")


def _metadata(package: Distribution) -> Message:
    return package.metadata  # type: ignore[return-value]  # an email.message.Message, though not typed so


def _licence_texts(package: Distribution) -> Iterator[bytes]:
    """Yield the texts of a licence; they are read only if its name is not enough."""
    for file in package.files or ():
        if re.match(r"(?i)licen[cs]e|copying", file.name):
            path = Path(str(package.locate_file(file)))
            if path.is_file():
                yield path.read_bytes()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
