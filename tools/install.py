"""Install jmedllm from this clone with the packages of constraints.txt, each verified by its SHA-256.

    python tools/install.py                  # into the environment of this Python
    python tools/install.py gpu deploy       # with extras of pyproject.toml

pip resolves first without installing anything, then installs exactly these wheels with `--require-hashes`. What is
already installed and fits, such as another build of PyTorch, stays. pip reads its own configuration, too.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from jmedllm.bundle.constraints import CHECKOUT, Pin, canonical, read_constraints, write_versions  # noqa: E402

PIP = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
WHEELS = "--only-binary=:all:"


def main(*extras: str) -> None:
    """Install the packages, then jmedllm itself as an editable checkout."""
    pins = read_constraints(CHECKOUT)
    install(required(extras), pins)
    subprocess.run([*PIP, "--no-deps", "--no-build-isolation", "--no-index", "--editable", str(ROOT)], check=True)


def required(extras: Sequence[str]) -> list[str]:
    """Return what pyproject.toml requires, and what builds jmedllm."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = settings["project"]["optional-dependencies"]
    for name in extras:
        if name not in known:
            sys.exit(f"error: no extra {name}; one of {', '.join(known)}")
    chosen = [requirement for name in extras for requirement in known[name]]
    return [*settings["project"]["dependencies"], *chosen, *settings["build-system"]["requires"]]


def install(requirements: Iterable[str], pins: dict[str, Pin]) -> None:
    """Install packages and all that they need, with the versions and hashes of the constraints."""
    with tempfile.TemporaryDirectory() as temporary:
        versions, report, verified = (
            Path(temporary) / name for name in ("versions.txt", "report.json", "verified.txt")
        )
        command = [*PIP, "--dry-run", WHEELS, "--report", str(report)]
        command += ["--constraint", str(write_versions(pins, versions)), *requirements]
        subprocess.run(command, check=True)
        packages = [package["metadata"] for package in json.loads(report.read_text(encoding="utf-8"))["install"]]
        found = {canonical(package["name"]): package["version"] for package in packages}
        if unknown := sorted(set(found) - set(pins)):
            sys.exit(f"error: {', '.join(unknown)}: not in {CHECKOUT.name}; add with: python tools/lock.py")
        if found:
            lines = [
                pins[name].requirement(version.removeprefix(pins[name].version) or None)
                for name, version in found.items()
            ]
            verified.write_text("\n".join(lines), encoding="utf-8")
            subprocess.run([*PIP, "--no-deps", "--require-hashes", WHEELS, "--requirement", str(verified)], check=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except subprocess.CalledProcessError as error:  # pip has printed why
        sys.exit(error.returncode)
