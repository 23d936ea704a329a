"""Find the sources of the catalogue in a data directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jmedllm.data.catalogue import SOURCES, Source

State = Literal["present", "part", "absent"]
"""`part`: some files of the source are missing."""


@dataclass(frozen=True)
class OnDisk:
    """A source and its files in a data directory; their content is not checked.

    Attributes:
        files: number of files on disk.
        size: size of these files in bytes.
    """

    source: Source
    files: int
    size: int

    @property
    def state(self) -> State:
        """Whether all files, some or none are on disk."""
        if not self.files:
            return "absent"
        return "present" if self.files == len(self.source.files) else "part"


def find_on_disk(data: Path) -> list[OnDisk]:
    """Look for the files of every source."""
    return [_look_for(source, data) for source in SOURCES.values()]


def first_to_fetch() -> str:
    """Return the first source that upstream has and checksums verify."""
    return next(each.name for each in SOURCES.values() if not each.needs_mirror and not each.unpinned)


def _look_for(source: Source, data: Path) -> OnDisk:
    sizes = [path.stat().st_size for file in source.files if (path := data / file.path).is_file()]
    return OnDisk(source, len(sizes), sum(sizes))
