"""Who may read the data and runs on this machine."""

import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from jmedllm.deploy.trust import trusted_list
from jmedllm.doctor.check import Check, Status
from jmedllm.errors import NoSuchPathError

_SECTION = "permissions"

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_READ = stat.S_IRGRP | stat.S_IROTH
_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ENTER = stat.S_IXGRP | stat.S_IXOTH

USUAL = ("runs", "results", "corpora", "models", "data")
"""Folders of the current directory that are checked if no path is given."""

_PUBLIC = ("models", "data")
"""Those of the usual folders that often have public files only."""

MOST = 200_000
"""Largest number of files of a path that are looked at."""


def check_permissions(paths: Sequence[Path]) -> list[Check]:
    """Check who may read the given paths, else the usual folders, and the settings of jmedllm.

    Raises:
        NoSuchPathError: a given path does not exist.
    """
    for path in paths:
        if not path.exists():
            raise NoSuchPathError(path, f"{path}: no such file or folder; give data and run directories that exist")
    found = [each for each in (*map(Path, USUAL), _data()) if each.exists()]
    chosen = paths or list(dict.fromkeys(found))
    checks = [_readers(path, is_public=not paths and path.name in _PUBLIC) for path in chosen]
    if not chosen:
        checks = [Check(_SECTION, "data and runs", "ok", f"none here ({', '.join(USUAL)}); name yours as arguments")]
    settings = trusted_list().parent
    return [*checks, *([_readers(settings, "settings")] if settings.exists() else [])]


def _data() -> Path:
    return Path(os.environ.get("JMEDLLM_DATA", "data"))


def _readers(path: Path, name: str | None = None, *, is_public: bool = False) -> Check:
    """Check whether other users may read or change a path, or what is below it."""
    name = name or path.name or str(path)
    closed = next((each for each in (path.resolve(), *path.resolve().parents) if not _may_enter(each)), None)
    if closed is not None:
        return Check(_SECTION, name, "ok", f"only you reach it ({closed} is closed to others)")
    modes = [_mode(each) for each in islice(_below(path), MOST)]
    files = [mode for mode in modes if not stat.S_ISDIR(mode)]
    changed = sum(bool(mode & _WRITE) for mode in modes)
    read = sum(bool(mode & _READ) for mode in files)
    count = f"{len(files):,}{' or more' if len(modes) == MOST else ''} files"
    if not read and not changed:
        return Check(_SECTION, name, "ok", f"{count}, which only you can read")
    what = [f"can read {read:,}"] * bool(read) + [f"can change {changed:,} files and folders"] * bool(changed)
    fix = f"if it is not public: chmod -R go-rwx {path}"
    status: Status = "warning" if is_public else "fix"
    return Check(_SECTION, name, status, f"other users {' and '.join(what)} of {count}", fix)


def _may_enter(path: Path) -> bool:
    mode = path.stat().st_mode
    return bool(mode & (_ENTER if stat.S_ISDIR(mode) else _OTHERS))


def _below(path: Path) -> Iterator[Path]:
    yield path
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            yield Path(folder) / name


def _mode(path: Path) -> int:
    try:
        mode = path.lstat().st_mode
    except OSError:  # removed meanwhile
        return 0
    return 0 if stat.S_ISLNK(mode) else mode
