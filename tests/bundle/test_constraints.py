"""constraints.txt has the version and the hashes of everything that is installed, and nothing else gets in."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest

from jmedllm.bundle.constraints import CHECKOUT, read_constraints, write_versions
from jmedllm.bundle.target import Target
from jmedllm.bundle.wheels import closure
from jmedllm.errors import InputError
from jmedllm.files import hash_file

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NOT_LOCKED = {"vllm", "torchvision"}
"""Extras that need another PyTorch."""


def requires(name: str) -> list[str]:
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        return []


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_it_has_every_package_that_an_extra_needs(python: str, machine: str) -> None:
    pins = read_constraints(CHECKOUT)
    extras = SETTINGS["project"]["optional-dependencies"]
    asked = [*SETTINGS["project"]["dependencies"], *SETTINGS["build-system"]["requires"], "pip"]
    asked += [each for name in set(extras) - NOT_LOCKED for each in extras[name]]
    needed = closure(asked, requires, Target(python, (2, 28), machine))
    assert len(needed) > 80
    assert not set(needed) - set(pins)
    for name, need in needed.items():
        assert need.specifier.contains(pins[name].version, prereleases=True), name
        assert pins[name].sizes[machine] > 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch==2.13.0\n", "torch==2.13.0: has no version or no SHA-256"),
        (f"torch>=2 --hash=sha256:{'a' * 64}\n", "torch>=2: has no version"),
        (f"torch==2 --hash=sha256:{'a' * 63}\n", "torch==2: has no version or no SHA-256"),
        (f"torch==2 --hash=md5:{'a' * 64}\n", "torch==2: has no version or no SHA-256"),
        (None, "cannot be read"),
    ],
)
def test_what_is_not_a_pin_is_refused(text: str | None, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "constraints.txt"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InputError, match=expected):
        read_constraints(file)


def test_pip_reads_a_pin_as_we_do(tmp_path: Path) -> None:
    from pip._internal.network.session import PipSession
    from pip._internal.req import parse_requirements
    from pip._internal.req.constructors import install_req_from_parsed_requirement

    pins = read_constraints(CHECKOUT)
    parsed = [*map(install_req_from_parsed_requirement, parse_requirements(str(CHECKOUT), PipSession()))]
    found = {each.name: sorted(each.hash_options["sha256"]) for each in parsed}
    assert found == {pin.name: sorted(pin.hashes) for pin in pins.values()}
    versions = write_versions(pins, tmp_path / "versions.txt").read_text().splitlines()
    assert versions == [str(each.req) for each in parsed]


def wheel(folder: Path, version: str, content: str = "") -> Path:
    file = folder / f"ward-{version}-py3-none-any.whl"
    about = f"ward-{version}.dist-info"
    with ZipFile(file, "w") as archive:
        archive.writestr("ward.py", content)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: ward\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return file


INSTALL = """
import sys
sys.path.insert(0, sys.argv[1])
import install
from pathlib import Path
install.install(["ward"], install.read_constraints(Path(sys.argv[2])))
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("version", "changed", "expected"),
    [("1.0", False, None), ("1.0+cpu", False, None), ("1.0", True, "DO NOT MATCH THE HASHES")],
    ids=["as locked", "a build of another index", "changed"],
)
def test_the_installer_refuses_a_changed_wheel(
    version: str, changed: bool, expected: str | None, tmp_path: Path
) -> None:
    file = wheel(tmp_path, version)
    wheel(tmp_path, "2.0")  # newer, and not locked
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(f"ward==1.0 \\\n    --hash=sha256:{hash_file(file)}\n")
    if changed:
        wheel(tmp_path, version, "raise SystemExit")
    settings = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    settings |= {"PIP_TARGET": str(tmp_path / "installed")}
    command = [sys.executable, "-c", INSTALL, str(ROOT / "tools"), str(constraints)]
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (expected is None), done.stderr
    assert (expected or "") in done.stderr
    assert (tmp_path / "installed" / f"ward-{version}.dist-info").is_dir() == (expected is None)


def test_pip_is_installed_in_the_locked_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import bootstrap_venv

    pin = read_constraints(CHECKOUT)["pip"]
    assert bootstrap_venv.pinned() == (pin.version, set(pin.hashes))
    (tmp_path / f"pip-{pin.version}-py3-none-any.whl").write_bytes(b"changed")
    with pytest.raises(SystemExit, match=r"its SHA-256 is not in constraints\.txt"):
        bootstrap_venv.main(tmp_path / "venv", tmp_path)
