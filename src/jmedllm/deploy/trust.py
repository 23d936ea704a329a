"""Which GGUF files may be loaded: llama.cpp reads them in native code, whose memory a crafted file can corrupt.

A file is trusted by its content. Its SHA-256 is in the user's list, to which `jmedllm deploy gguf` adds what it
writes, or in a file SHA256SUMS beside it, as in a bundle.
"""

import os
import re
from pathlib import Path

from jmedllm.errors import InputError, NoSuchPathError
from jmedllm.files import hash_file, write_atomic
from jmedllm.progress import notice

SUMS = "SHA256SUMS"
"""Name of the list of checksums beside a file."""

_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def trusted_list() -> Path:
    """Return the path of the user's list of trusted files, in the format of `sha256sum`."""
    folder = os.environ.get("XDG_CONFIG_HOME")
    return (Path(folder) if folder else Path.home() / ".config") / "jmedllm" / "trusted"


def add_trusted(file: Path, name: Path | None = None) -> None:
    """Add a file to the user's list. If the list cannot be written, a notice says so.

    Args:
        file: the file.
        name: where it will be moved; None for its own path.

    Raises:
        InputError: the file cannot be read.
    """
    _add(hash_file(file), name or file)


def require_trusted(file: Path, trust: bool) -> str:
    """Check that a file may be loaded, and return its SHA-256.

    Args:
        file: the GGUF file.
        trust: whether the user vouches for it; it is added to the user's list then.

    Raises:
        InputError: it is missing, its checksum is not known, or SHA256SUMS has another one for it.
    """
    if not file.is_file():
        raise NoSuchPathError(file, f"{file}: no such file")
    digest = hash_file(file)
    beside = file.with_name(SUMS)
    expected = {name: each for each, name in _sums(beside)}.get(file.name)
    if expected is not None:
        if expected != digest:
            raise InputError(
                f"{file}: is not the file that {beside} names: its SHA-256 is {digest}, there it is {expected}; "
                "copy it again from where you got it"
            )
        return digest
    if digest in {each for each, _ in _sums(trusted_list())}:
        return digest
    if not trust:
        raise InputError(
            f"{file}: was not exported here, and a GGUF file from elsewhere can run code; compare its SHA-256 with "
            f"its publisher's ({digest}) and give --trust"
        )
    _add(digest, file)
    return digest


def _sums(path: Path) -> list[tuple[str, str]]:
    """Return the checksums and names in a list; none if there is no list that can be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}; remove it or write it again with sha256sum") from error
    matches = filter(None, map(_LINE.fullmatch, lines))
    return [(match[1].lower(), match[2].removeprefix("./")) for match in matches]


def _add(digest: str, file: Path) -> None:
    path = trusted_list()
    known = _sums(path)
    if digest in {each for each, _ in known}:
        return
    lines = "".join(f"{each}  {name}\n" for each, name in [*known, (digest, str(file.resolve()))])
    try:
        write_atomic(path, lines)
    except InputError as error:  # a service may have no home directory
        notice(f"{file} is not in the list of trusted files ({error}); give --trust where you load it")
