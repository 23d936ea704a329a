"""Verify a bundle, install it once into a virtual environment, and start what it is for.

Every bundle contains a copy of this file as `install.py`, which needs only Python. `run.sh` starts it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SUMS = "SHA256SUMS"
FACTS = "bundle.json"
"""File with the versions, the machine and the command of a bundle."""

MARK = "jmedllm-bundle"
"""File in a virtual environment that this program made. It contains the checksum of the bundle once complete."""

_MOST_NAMED = 20
_BLOCK = 1 << 20


class BundleError(Exception):
    """The bundle cannot be used: what is wrong, where, and the fix."""


def main() -> None:
    """Run the command line."""
    folder = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(
        prog="install.sh" if (folder / "install.sh").exists() else "run.sh",
        allow_abbrev=False,  # an option of the server must not be read as one of these
        description="Verify the checksums of this bundle, install it once, and start it.",
        epilog="All other options go to the server; its own help: run.sh -- --help",
    )
    parser.add_argument("--venv", type=Path, metavar="DIR", help="where to install (default: below ~/.local/share)")
    parser.add_argument("--verify-only", action="store_true", help="verify the checksums and stop")
    parser.add_argument("--install-only", action="store_true", help="verify, install and stop")
    given, rest = parser.parse_known_args()
    try:
        problems = verify(folder)
        if problems:
            raise BundleError("\n".join(["this bundle is damaged; copy it again:", *problems]))
        if given.verify_only:
            sys.stdout.write(f"verified: every file is as {SUMS} lists it\n")
            return
        facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        require_machine(facts)
        identity = sha256(folder / SUMS)
        python = install(folder, given.venv or usual_place(facts["name"], identity), identity, facts["native"])
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted; run the same command again\n")
        sys.exit(130)
    except BundleError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except OSError as error:  # a full disk, or a place where this user may not write
        sys.stderr.write(
            f"error: {error.filename or folder}: {error.strerror}; choose another place with --venv DIR\n"
        )
        sys.exit(2)
    if not facts["command"]:
        if rest:
            parser.error(f"unknown options: {' '.join(rest)}")
        sys.stdout.write(f"installed: {python.parent / 'jmedllm'}\n")
    elif not given.install_only:
        command = [str(python), "-I", "-m", *(part.replace("{bundle}", str(folder)) for part in facts["command"])]
        # Processes of the server must not import from the current directory either.
        settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        settings["PYTHONSAFEPATH"] = "1"
        os.execve(command[0], [*command, *(part for part in rest if part != "--")], settings)


def verify(folder: Path) -> list[str]:
    """Return what differs from the checksums, one line a file: changed, missing, added and linked files."""
    sums = folder / SUMS
    if not sums.is_file():
        return [f"{SUMS}: missing"]
    listed = {}
    for number, line in enumerate(sums.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        digest, separator, name = line.partition("  ")
        if len(digest) != 64 or not separator or not name:
            return [f"{SUMS}: line {number} is damaged"]
        listed[name] = digest
    present = files(folder)
    problems = [f"{name}: missing" for name in sorted(set(listed) - present)]
    problems += [f"{name}: added; {SUMS} does not list it" for name in sorted(present - set(listed) - {SUMS})]
    others = {name for name in present if (folder / name).is_symlink() or not (folder / name).is_file()}
    problems += [f"{name}: a link or a device; a bundle has files only" for name in sorted(others & set(listed))]
    problems += [
        f"{name}: changed; its checksum is not that of {SUMS}"
        for name in sorted((present - others) & set(listed))
        if sha256(folder / name) != listed[name]
    ]
    more = len(problems) - _MOST_NAMED
    return problems[:_MOST_NAMED] + ([f"and {more} more"] if more > 0 else [])


def files(folder: Path) -> set[str]:
    """Return the paths of all files and links in a folder, relative to it, with "/"."""
    found: set[str] = set()
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        found.update((Path(parent) / name).relative_to(folder).as_posix() for name in (*names, *links))
    return found


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hex; of nothing readable, an empty text."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as handle:
            for block in iter(lambda: handle.read(_BLOCK), b""):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


def require_machine(facts: dict[str, Any]) -> None:
    """Check that the wheels are for this machine; `run.sh` has checked the version of Python.

    Raises:
        BundleError: they are not.
    """
    if (sys.platform, platform.machine()) != ("linux", facts["machine"]):
        found = f"{sys.platform} {platform.machine()}"
        raise BundleError(f"this machine is {found}, and the bundle is for linux {facts['machine']}")
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < tuple(facts["glibc"]):
        wanted = ".".join(map(str, facts["glibc"]))
        raise BundleError(f"this machine has {library or 'no glibc'} {version}, and the bundle needs glibc {wanted}")


def usual_place(name: str, identity: str) -> Path:
    """Return where a bundle is installed without --venv: each version has its own folder.

    Raises:
        BundleError: there is no home directory.
    """
    try:
        data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    except RuntimeError:
        raise BundleError("this user has no home directory; choose where to install with --venv DIR") from None
    return data / "jmedllm" / "bundles" / f"{name}-{identity[:12]}"


def install(folder: Path, place: Path, identity: str, native: str) -> Path:
    """Install the wheels of a bundle into a virtual environment, unless it is there already, and return its Python.

    Args:
        folder: the bundle.
        place: where to install.
        identity: checksum of the bundle.
        native: module that needs libraries of the system.

    Raises:
        BundleError: the folder has other files, pip fails, or this machine lacks a library.
    """
    place = place.absolute()
    python, mark = place / "bin" / "python", place / MARK
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two starts at once install it once
        if mark.is_file() and mark.read_text(encoding="utf-8") == identity and os.access(python, os.X_OK):
            return python
        if place.exists() and any(place.iterdir()) and not mark.is_file():
            raise BundleError(f"{place} has other files; choose another --venv")
        sys.stderr.write(f"installing into {place}\n")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        mark.write_text("", encoding="utf-8")  # first, so that an interrupted installation can be replaced
        create_environment(place)
        pip = next((folder / "wheels").glob("pip-*.whl")) / "pip"
        command = [str(python), "-I", str(pip), "install", "--no-index", "--require-hashes", "--no-deps"]
        command += ["--no-compile", "--quiet", "--no-cache-dir", "--find-links", str(folder / "wheels")]
        command += ["--requirement", str(folder / "requirements.txt")]
        settings = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        settings["PIP_CONFIG_FILE"] = os.devnull
        done = subprocess.run(command, env=settings, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            said = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or [done.stderr.strip()]
            raise BundleError(f"pip cannot install the bundle into {place}: {said[0]}")
        command = [str(python), "-I", "-c", "import " + native]
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise BundleError(
                f"{native} does not start on this machine: {(done.stderr.strip() or 'no reason').splitlines()[-1]}; "
                "install the missing library of the system, such as libgomp1 on Debian and libgomp on Red Hat"
            )
        mark.write_text(identity, encoding="utf-8")
    return python


def create_environment(place: Path) -> None:
    """Create a virtual environment without pip, also where the module venv is missing, as on a minimal Debian."""
    try:
        import venv
    except ImportError:
        version = "{}.{}".format(*sys.version_info[:2])
        (place / "bin").mkdir()
        (place / "lib" / f"python{version}" / "site-packages").mkdir(parents=True)
        base = Path(getattr(sys, "_base_executable", None) or sys.executable)
        for name in ("python", "python3", f"python{version}"):
            (place / "bin" / name).symlink_to(base)
        (place / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n")
    else:
        venv.create(place, symlinks=True, with_pip=False)


if __name__ == "__main__":
    main()
