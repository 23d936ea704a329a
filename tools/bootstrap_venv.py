"""A virtual environment with pip on a Debian that has Python but not its package python3-venv.

    python3 tools/bootstrap_venv.py .venv            (called by make where `python3 -m venv` fails)
    python3 tools/bootstrap_venv.py .venv WHEELS     without a network: a folder that has pip's wheel

pip comes from the folder WHEELS, else from where distributions keep its wheel, else from PyPI in the version of
constraints.txt. Its SHA-256 is verified, except that of the distribution's own file.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from urllib.parse import urljoin

INDEX = "https://pypi.org/pypi/pip/{}/json"
LOCK = Path(__file__).parents[1] / "constraints.txt"
DISTRIBUTION = (Path("/usr/share/python-wheels"), Path("/usr/share/python3-wheels"))


def main(folder: Path, *wheels: Path) -> None:
    """Create the environment without pip, then let a pip wheel install itself into it."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
    with tempfile.TemporaryDirectory() as temporary:
        found = find(wheels) if wheels else find(DISTRIBUTION) or download(Path(temporary))
        if found is None:
            sys.exit(f"{', '.join(map(str, wheels))}: has no pip-VERSION-py3-none-any.whl; add it")
        if wheels and hashlib.sha256(found.read_bytes()).hexdigest() not in pinned()[1]:
            sys.exit(f"{found}: its SHA-256 is not in constraints.txt; download pip=={pinned()[0]} again")
        command = [folder / "bin" / "python", found / "pip", "install", "--quiet", "--no-index", found]
        subprocess.run(command, check=True)


def find(folders: tuple[Path, ...]) -> Path | None:
    """Return the newest wheel of pip in these folders."""
    return max((file for folder in folders for file in folder.glob("pip-*.whl")), default=None)


def pinned() -> tuple[str, set[str]]:
    """Return the version of pip in constraints.txt and the SHA-256 of its wheel."""
    found = re.search(r"^pip==(\S+)((?: \\\n +--hash=sha256:\w+)+)", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        sys.exit(f"{LOCK}: has no pip; write it with tools/lock.py")
    return found[1], set(re.findall(r"sha256:(\w+)", found[2]))


def download(folder: Path) -> Path:
    """Download pip's wheel from PyPI and verify it."""
    version, hashes = pinned()
    index = INDEX.format(version)
    with urllib.request.urlopen(index) as answer:
        release = json.load(answer)
    wheel = next(file for file in release["urls"] if file["packagetype"] == "bdist_wheel")
    with urllib.request.urlopen(urljoin(index, wheel["url"])) as answer:
        content = answer.read()
    if hashlib.sha256(content).hexdigest() not in hashes:
        sys.exit(f"{wheel['url']}: its SHA-256 is not in constraints.txt; try again")
    path = folder / wheel["filename"]
    path.write_bytes(content)
    return path


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
