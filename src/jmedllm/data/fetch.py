"""Fetch a source from upstream or a mirror; each file is verified before it gets its final name."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from jmedllm.data.catalogue import File, Source, find
from jmedllm.data.transport import download
from jmedllm.errors import InputError
from jmedllm.files import hash_file, make_folder, read_jsonl
from jmedllm.named_server import ClientOptions, parse_server
from jmedllm.progress import progress

SCHEMES = ("http", "https", "file")


@dataclass(frozen=True)
class Fetched:
    """A file of a source that is now on disk.

    Attributes:
        new: whether it was fetched now.
        sha256: hash of its bytes.
        verified: whether the hash was compared with the catalogue's.
    """

    path: Path
    new: bool
    sha256: str
    verified: bool


def get(
    name: str,
    data: Path,
    mirror: str | None = None,
    revision: str | None = None,
    options: ClientOptions | None = None,
) -> list[Fetched]:
    """Fetch the files of a source into the data directory, with a progress line on stderr.

    A file with the right checksum is not fetched again. Bytes are written to a temporary file, which gets its name
    only after it was verified. A file without a known checksum is kept unless `revision` is given; only its format is
    checked.

    Args:
        mirror: folder, or http, https or file address, with the same relative paths; None for upstream.
        revision: commit, branch or tag of upstream instead of the catalogue's; only for files without a checksum.
        options: proxy and time limit of each file.

    Raises:
        InputError: the source or mirror is unknown, a file cannot be fetched, or its checksum differs.
    """
    source = find(name)
    # Compute all addresses first, so that errors occur before anything is written.
    base = None if mirror is None else _mirror_address(mirror)
    urls = [_address(source, file, base, revision) for file in source.files]
    fetched = []
    with progress(f"download {name}", len(urls)) as advance:
        for file, url in zip(source.files, urls, strict=True):
            path = data / file.path
            new = revision is not None or not _is_right(file, path)
            if new:
                _fetch(file, path, url, options or ClientOptions(), from_upstream=mirror is None)
            fetched.append(Fetched(path, new, hash_file(path), file.sha256 is not None))
            advance(1, path.name)
    return fetched


def _is_right(file: File, path: Path) -> bool:
    """Return whether the file is on disk with the checksum of the catalogue, or with any if it has none."""
    return path.is_file() and file.sha256 in (None, hash_file(path))


def _mirror_address(mirror: str) -> str:
    """Return the address of a mirror without a trailing slash; a folder becomes a file address."""
    if "://" not in mirror:
        if not Path(mirror).is_dir():
            raise InputError(f"--mirror {mirror}: no such folder; give a folder or an {_schemes()} address")
        return Path(mirror).resolve().as_uri()
    if urlsplit(mirror).scheme not in SCHEMES:
        raise InputError(f"--mirror {mirror}: cannot fetch from there; give a folder or an {_schemes()} address")
    return mirror.rstrip("/") if mirror.startswith("file:") else parse_server(mirror, "--mirror")


def _schemes() -> str:
    return ", ".join(SCHEMES[:-1]) + f" or {SCHEMES[-1]}"


def _address(source: Source, file: File, mirror: str | None, revision: str | None) -> str:
    if revision is not None and (mirror is not None or file.sha256 is not None):
        raise InputError(f"--revision {revision}: a mirror or checksums fix the files of {source.name}; leave it out")
    if mirror is not None:
        return f"{mirror}/{quote(file.path)}"
    if file.url is None:
        raise InputError(f"{source.name} cannot be downloaded from upstream; give --mirror: {source.note}")
    return file.url if revision is None else file.url.replace(source.revision, quote(revision, safe=""))


def _require_lines(file: File, path: Path, url: str) -> None:
    try:
        empty = next(iter(read_jsonl(path)), None) is None
        for _ in read_jsonl(path):
            pass
    except InputError as error:
        reason = str(error).removeprefix(f"{path}:")
        raise InputError(f"{file.path} from {url} is not JSON Lines: line {reason}; use another --mirror") from None
    if empty:
        raise InputError(f"{file.path} from {url} is empty; use another --mirror")


def _fetch(file: File, path: Path, url: str, options: ClientOptions, *, from_upstream: bool) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        make_folder(path.parent)
        download(url, temporary, options)
        if from_upstream and file.convert is not None:
            temporary.write_bytes(file.convert(temporary.read_bytes()))
        found = hash_file(temporary)
        if file.sha256 not in (None, found):
            raise InputError(
                f"{file.path} from {url} has another checksum: "
                f"expected sha256 {file.sha256}, found {found}; use another --mirror"
            )
        if file.sha256 is None and file.path.endswith(".jsonl"):
            _require_lines(file, temporary, url)
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another --data"
        ) from error
    finally:
        with suppress(OSError):  # renamed, or never created
            temporary.unlink()
