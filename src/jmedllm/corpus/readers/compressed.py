"""Reads files compressed with gzip or Zstandard; truncated files are read up to where they end."""

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from jmedllm.corpus.readers.limits import MOST_RATIO, MOST_UNPACKED_FREELY
from jmedllm.errors import InputError

COMPRESSED = (".gz", ".zst")

_BUFFER = 1 << 16
"""Compressed bytes that are read at a time."""

_SLICE = {".gz": 1 << 15, ".zst": 1 << 9}
"""Compressed bytes that are unpacked at a time, in at most 32 MB: by 1,000 with gzip, by 32,000 with Zstandard."""

_ENOUGH = 1 << 16
"""Unpacked bytes that are handed on at a time, if there are so many."""


def is_compressed(path: Path) -> bool:
    """Return whether the name says that a file is compressed."""
    return path.suffix.lower() in COMPRESSED


def open_any(path: Path, lost: str = "what follows is lost") -> BinaryIO:
    """Open a file for its bytes, uncompressed.

    Args:
        lost: what a broken archive costs, for the message.

    Raises:
        InputError: it cannot be opened; or, while it is read, it is broken.
    """
    try:
        handle = path.open("rb")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}") from error
    suffix = path.suffix.lower()
    return cast(BinaryIO, _Decompressed(handle, suffix, lost)) if suffix in COMPRESSED else handle


class _Decompressed:
    """A compressed stream with one-line errors.

    The content before a broken place is read. The file objects of the libraries would lose it, and that of zstandard
    takes the end of a truncated file for the end of the text.
    """

    def __init__(self, handle: BinaryIO, suffix: str, lost: str) -> None:
        self.handle, self.lost = handle, lost
        self.new = _new_gzip if suffix == ".gz" else _new_zstd
        self.slice = _SLICE[suffix]
        self.decoder = self.new()
        self.packed = memoryview(b"")
        self.read_bytes = self.unpacked_bytes = 0
        self.begun = False
        self.text = BytesIO()

    def __enter__(self) -> "_Decompressed":
        return self

    def __exit__(self, *error: object) -> None:
        self.handle.close()

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, none only at the end; all of them if `size` is negative."""
        if size < 0:
            return b"".join((self.text.read(), *iter(self._some, b"")))
        if size and self.text.tell() == len(self.text.getbuffer()):
            self.text = BytesIO(self._some())
        return self.text.read(size)

    def _some(self) -> bytes:
        """Return the next bytes of the text, none at its end."""
        import zstandard

        pieces, size = [], 0
        try:
            while size < _ENOUGH and (data := self._packed()):
                if self.decoder.eof:  # another stream follows, as `cat a.gz b.gz` writes them
                    self.decoder = self.new()
                self.begun = True
                text: bytes = self.decoder.decompress(data)
                unused = len(self.decoder.unused_data)
                self.packed = self.packed[len(data) - unused :]
                self.read_bytes += len(data) - unused
                self.unpacked_bytes += len(text)
                self._require_ratio()
                if text:
                    pieces.append(text)
                    size += len(text)
        except (zlib.error, zstandard.ZstdError) as error:
            if pieces:  # it fails again at the same place
                return b"".join(pieces)
            raise InputError(f"is broken: {error}; {self.lost}") from None
        if not size and self.begun and not self.decoder.eof:
            raise InputError(f"is truncated: the file ends before its text does; {self.lost}")
        return b"".join(pieces)

    def _packed(self) -> memoryview:
        """Return the next bytes of the file that are not yet unpacked."""
        if not self.packed:
            self.packed = memoryview(self.handle.read(_BUFFER))
        return self.packed[: self.slice]

    def _require_ratio(self) -> None:
        if self.unpacked_bytes > max(MOST_UNPACKED_FREELY, MOST_RATIO * self.read_bytes):
            bomb = f"unpacks to more than {MOST_RATIO} times its size, as only a compression bomb does"
            raise InputError(f"{bomb}; {self.lost}")


def _new_gzip() -> Any:
    return zlib.decompressobj(16 + zlib.MAX_WBITS)


def _new_zstd() -> Any:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj()
