"""Metadata of a GGUF file, read with the standard library alone: a workstation that serves a file has no numpy."""

import mmap
import struct
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError, NoSuchPathError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Formats of numbers in `struct`, by GGUF's types."""
_STRING, _ARRAY = 8, 9


def read_header(file: Path) -> dict[str, Any]:
    """Return all metadata of a GGUF file by key; arrays are lists.

    The format is described at https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.

    Raises:
        InputError: the file is missing, unreadable, not a GGUF file, or damaged.
    """
    try:
        with file.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _Reader(content).header()
    except FileNotFoundError:
        raise NoSuchPathError(file, f"{file}: no such file") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from error
    except (struct.error, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise InputError(f"{file}: not a GGUF file, or damaged ({error}); copy it again") from error


class _Reader:
    """A position in the bytes of a file."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.at = content, 0

    def header(self) -> dict[str, Any]:
        if self.content[: len(_MAGIC)] != _MAGIC:
            raise ValueError("its first bytes are not GGUF")
        self.at = len(_MAGIC)
        version, _, count = (self.number(kind) for kind in "IQQ")
        if version not in _VERSIONS:
            raise ValueError(f"version {version}; supported: {', '.join(map(str, _VERSIONS))}")
        return {self.string(): self.value(self.number("I")) for _ in range(count)}

    def number(self, kind: str) -> Any:
        (value,) = struct.unpack_from(f"<{kind}", self.content, self.at)
        self.at += struct.calcsize(f"<{kind}")
        return value

    def string(self) -> str:
        start = self.at + 8
        (length,) = struct.unpack_from("<Q", self.content, self.at)
        self.at = start + length
        if self.at > len(self.content):
            raise ValueError("it ends inside its metadata")
        return self.content[start : self.at].decode(errors="replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.number(_NUMBERS[kind])
        each, count = self.number("I"), self.number("Q")
        if each == _STRING:
            return [self.string() for _ in range(count)]
        if each == _ARRAY:
            raise ValueError("an array of arrays")
        size = struct.calcsize(f"<{_NUMBERS[each]}") * count
        values = list(struct.unpack_from(f"<{count}{_NUMBERS[each]}", self.content, self.at))
        self.at += size
        return values
