"""Reads files compressed with gzip or Zstandard; truncated files are read up to where they end."""

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from jmedllm.errors import InputError

COMPRESSED = (".gz", ".zst")

_BUFFER = 1 << 16
"""Compressed bytes that are read at a time. Their decompressed content is in memory."""


def is_compressed(path: Path) -> bool:
    """Return whether the name says that a file is compressed."""
    return path.suffix.lower() in COMPRESSED


def open_any(path: Path) -> BinaryIO:
    """Open a file for its bytes, uncompressed.

    Raises:
        InputError: it cannot be opened; or, while it is read, it is broken.
    """
    try:
        handle = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error
    suffix = path.suffix.lower()
    return cast(BinaryIO, _Decompressed(handle, suffix)) if suffix in COMPRESSED else handle


class _Decompressed:
    """A compressed stream with one-line errors.

    The content before a broken place is read. The file objects of the libraries would lose it, and that of zstandard
    takes the end of a truncated file for the end of the text.
    """

    def __init__(self, handle: BinaryIO, suffix: str) -> None:
        self.handle = handle
        self.new = _new_gzip if suffix == ".gz" else _new_zstd
        self.decoder = self.new()
        self.unused = b""
        self.begun = False
        self.text = BytesIO()

    def __enter__(self) -> "_Decompressed":
        return self

    def __exit__(self, *error: object) -> None:
        self.handle.close()

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, none only at the end; all of them if `size` is negative."""
        if size < 0:
            return b"".join((self.text.read(), *iter(lambda: self._some("nothing of it is read"), b"")))
        if size and self.text.tell() == len(self.text.getbuffer()):
            self.text = BytesIO(self._some("what follows is lost"))
        return self.text.read(size)

    def _some(self, lost: str) -> bytes:
        import zstandard

        while data := self.unused or self.handle.read(_BUFFER):
            if self.decoder.eof:  # another stream follows, as `cat a.gz b.gz` writes them
                self.decoder = self.new()
            self.begun = True
            try:
                text: bytes = self.decoder.decompress(data)
            except (zlib.error, zstandard.ZstdError) as error:
                raise InputError(f"is broken: {error}; {lost}") from None
            self.unused = self.decoder.unused_data
            if text:
                return text
        if self.begun and not self.decoder.eof:
            raise InputError(f"is truncated: the file ends before its text does; {lost}")
        return b""


def _new_gzip() -> Any:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _new_zstd() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj()
