"""Files: atomic writing, reading with line numbers in error messages, and hashes."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO

from jmedllm.errors import InputError, NoSuchPathError
from jmedllm.parsing import EncodingError, decode_utf8, parse_json

PRIVATE_FILE = 0o600
"""Mode of the files that jmedllm creates: they may contain text of patients, and only their owner may read them."""

PRIVATE_FOLDER = 0o700
"""Mode of the folders that jmedllm creates."""

_PRIVATE_UMASK = 0o077


def create_private_files() -> None:
    """Let only the owner read what this process, its libraries and its children create from now on.

    Called once by the command line. It replaces the user's umask; files and folders that exist keep their modes.
    """
    os.umask(_PRIVATE_UMASK)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, for their owner only; those that exist keep their modes.

    Raises:
        OSError: a file is in its place, or it cannot be created.
    """
    if not folder.parent.exists():
        make_folder(folder.parent)
    folder.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


def write_atomic(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, through a temporary file in the same folder; only the owner may read it.

    Raises:
        InputError: the disk is full or `path` cannot be written; nothing is left behind.
    """
    with atomic_file(path) as handle:
        handle.write(text.encode())


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file in the same folder that replaces `path` when the block ends without an error.

    Only the owner may read it. A device such as /dev/stdout or /dev/null is written directly.

    Raises:
        InputError: the disk is full or `path` cannot be written; nothing is left behind.
    """
    temporary = _neighbour(path)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            with path.open("wb") as handle:
                yield handle
            return
        make_folder(path.parent)
        with open(temporary, "wb", opener=open_private) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _neighbour(path: Path, ending: str = "tmp") -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{ending}")


_LEFT = re.compile(r"\..+\.(\d+)\.(?:tmp|old)")
"""Names of `_neighbour`, with the process that made them."""


def sweep(parent: Path, name: str) -> None:
    """Remove temporary folders with names that match `name`, of this process and of processes that have ended."""
    left = re.compile(rf"\.(?:{name})\.(\d+)\.(?:tmp|old)")
    for folder in parent.iterdir() if parent.is_dir() else ():
        match = left.fullmatch(folder.name)
        if match and (int(match[1]) == os.getpid() or not _lives(int(match[1]))):
            shutil.rmtree(folder, ignore_errors=True)


def sweep_below(folder: Path) -> None:
    """Remove temporary files and folders of processes that were killed while they wrote below `folder`."""
    for path in [*folder.rglob(".*.tmp"), *folder.rglob(".*.old")]:
        match = _LEFT.fullmatch(path.name)
        if match and not _lives(int(match[1])):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def unwritable(path: Path, error: Exception) -> InputError:
    """Build the error for a path that cannot be written: a full disk, a missing permission, a file in place of a
    folder."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if isinstance(error, FileExistsError):  # mkdir raises it for a file in place of a folder
        reason = f"{error.filename} is not a folder"
    return InputError(f"cannot write {path}: {reason}; free space or choose another place")


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Serialize as JSON with readable Japanese and keys in the given order."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def cut_unfinished_line(path: Path) -> None:
    """Remove the last line of a file if it has no line feed, as left by a killed process."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        with path.open("r+b") as handle:
            handle.truncate(whole)


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value per line, atomically."""
    write_atomic(path, "".join(to_json(row) + "\n" for row in rows))


def open_private(path: str | Path, flags: int) -> int:
    """Open a file for `open(..., opener=open_private)`: only the owner may read a new one, whatever the umask."""
    return os.open(path, flags, PRIVATE_FILE)


def append_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Append one JSON value per line, and flush them to the operating system.

    Only the owner can read a new file. If the disk is full, nothing is appended.

    Raises:
        InputError: the disk is full or the file cannot be written.
    """
    text = "".join(to_json(row) + "\n" for row in rows)
    try:
        with open(path, "ab", buffering=0, opener=open_private) as handle:
            end = os.fstat(handle.fileno()).st_size
            try:
                _write_all(handle, text.encode())
            except OSError:
                with suppress(OSError):
                    handle.truncate(end)  # a part of a line would make the next one unreadable
                raise
    except OSError as error:
        raise unwritable(path, error) from error


def _write_all(handle: RawIOBase, data: bytes) -> None:
    while data:
        data = data[handle.write(data) or 0 :]


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is missing, or is not valid JSON.
    """
    return parse_json(decode_utf8(read_bytes(path), path), path)


MOST_BYTES = 1 << 30
"""Bytes of a file that is read as a whole. JSON needs several times its size in memory."""

MOST_LINE = 64 << 20
"""Bytes of a line of JSON."""


def read_bytes(path: Path) -> bytes:
    """Read all bytes of a file.

    Raises:
        InputError: the file is missing, cannot be read, or has more than `MOST_BYTES`.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: has more than {MOST_BYTES >> 20:,} MB; divide it")
        return path.read_bytes()
    except FileNotFoundError:
        raise NoSuchPathError(path, f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def read_jsonl(path: Path, *, skip_unfinished: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) for each non-empty line.

    Args:
        path: the file.
        skip_unfinished: skip a last line without a line feed, which another process may be writing.

    Raises:
        InputError: the file is missing or unreadable, or a line is not a JSON object.
    """
    for number, row in try_jsonl(path, skip_unfinished=skip_unfinished):
        if isinstance(row, InputError):
            raise row
        yield number, row


def try_jsonl(path: Path, *, skip_unfinished: bool = False) -> Iterator[tuple[int, dict[str, Any] | InputError]]:
    """Yield (line number from 1, object) for each non-empty line, with an error in place of an invalid object.

    Args:
        path: the file.
        skip_unfinished: see `read_jsonl`.

    Raises:
        InputError: the file is missing or unreadable, or not in UTF-8.
    """
    try:
        handle = path.open("rb")
    except FileNotFoundError:
        raise NoSuchPathError(path, f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    with handle:
        # Decode line by line, because text mode decodes ahead and cannot name the line that is not UTF-8.
        for number, raw in enumerate(_lines(handle, path), 1):
            if skip_unfinished and not raw.endswith(b"\n"):
                return
            try:
                if len(raw) > MOST_LINE:
                    raise InputError(f"{path}:{number}: a line of more than {MOST_LINE >> 20} MB; divide or remove it")
                line = decode_utf8(raw, path, number)
                row = _object(path, number, line) if line.strip() else None
            except EncodingError:
                raise
            except InputError as error:
                yield number, error
                continue
            if row is not None:
                yield number, row


def _lines(handle: BinaryIO, path: Path) -> Iterator[bytes]:
    try:
        while line := handle.readline(MOST_LINE + 1):
            rest = line
            while len(rest) > MOST_LINE and not rest.endswith(b"\n"):  # the rest of a long line is not kept
                rest = handle.readline(MOST_LINE + 1)
            yield line
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _object(path: Path, number: int, line: str) -> dict[str, Any]:
    value = parse_json(line.rstrip(), path, number)
    if not isinstance(value, dict):
        raise InputError(f"{path}:{number}: expected a JSON object in braces, found {type(value).__name__}")
    return value


def require_ours(folder: Path, mark: str) -> None:
    """Check that `folder` may be replaced: it is missing or empty, or has the file `mark`.

    Raises:
        InputError: it has other files.
    """
    if not is_vacant(folder) and not (folder / mark).is_file():
        raise InputError(f"{folder} has files that jmedllm did not write; choose another --output")


def is_vacant(folder: Path) -> bool:
    """Return whether a folder is missing or empty."""
    return not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))


def hash_text(text: str) -> str:
    """Return the first 16 hex digits of the SHA-256 of `text` in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    """Return the full SHA-256 of a file, which is read in blocks.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with path.open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


@contextmanager
def atomic_folder(path: Path, mark: str) -> Iterator[Path]:
    """Create a temporary folder in the same parent that replaces `path` when the block ends without an error.

    The new folder is synced to disk, so that older work can then be removed.

    Args:
        path: folder to create.
        mark: name of a file that the block writes. An existing folder at `path` without it is not replaced.

    Raises:
        InputError: `path` has other files, the disk is full, or `path` cannot be written.
    """
    from safetensors import SafetensorError  # here, because a server of GGUF files runs without it

    require_ours(path, mark)
    path = path.resolve()  # keeps a symbolic link to a larger disk
    temporary = _neighbour(path)
    sweep(path.parent, re.escape(path.name))
    try:
        make_folder(temporary)
        yield temporary
        for written in (*temporary.rglob("*"), temporary):
            _sync(written)
        if path.exists():
            path.replace(_neighbour(path, "old"))
        temporary.replace(path)
        _sync(path.parent)
    except Exception as error:
        # tokenizers, written in Rust, raises plain exceptions with this ending.
        if isinstance(error, OSError | SafetensorError) or "(os error " in str(error):
            raise unwritable(path, error) from error
        raise
    finally:
        sweep(path.parent, re.escape(path.name))


@contextmanager
def temporary_folder_beside(path: Path) -> Iterator[Path]:
    """Create a folder in the same parent for work on a file, and remove it when the block ends.

    Those that processes which have been killed have left for the same file are removed, too.

    Raises:
        InputError: the parent cannot be written.
    """
    name = path.with_suffix("")
    folder = _neighbour(name)
    sweep(path.parent, re.escape(name.name))
    try:
        make_folder(folder)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some network disks can sync files only
            raise
    finally:
        os.close(descriptor)
