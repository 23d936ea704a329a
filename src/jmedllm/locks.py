"""Locks of folders: two processes never write the same output."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jmedllm.errors import InputError
from jmedllm.files import make_folder, open_private, sweep_below, unwritable

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock `folder` against other processes. The lock ends with the process, however it ends.

    What processes that were killed have left in it is removed.

    Raises:
        InputError: another process uses the folder, or it cannot be written.
    """
    try:
        make_folder(folder)
        handle = open(folder / LOCK, "a", opener=open_private)  # noqa: SIM115 - closed below
    except OSError as error:
        raise unwritable(folder, error) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(folder) from None
        sweep_below(folder)
        yield


def require_unlocked(folder: Path) -> None:
    """Check that no other process has locked `folder`; writes nothing.

    Raises:
        InputError: one has.
    """
    if not (folder / LOCK).is_file():
        return
    with (folder / LOCK).open() as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(folder) from None


def _in_use(folder: Path) -> InputError:
    return InputError(f"{folder} is in use by another jmedllm process; choose another --output")
