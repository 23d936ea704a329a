"""Limits on what one input file may cost. A file that exceeds one is skipped with the reason."""

from typing import BinaryIO

from jmedllm.errors import InputError

MOST_BYTES = 256 << 20
"""Bytes of a file that is one document, unpacked. A thousand dense pages of text have about 4 MB."""

MOST_LINE = 32 << 20
"""Bytes of a line of JSON, which is one document."""

MOST_CHARACTERS = 64 << 20
"""Characters that a PDF, Word or HTML file may yield."""

MOST_UNPACKED_FREELY = 256 << 20
MOST_RATIO = 200
"""Beyond so many bytes, a compressed file may unpack to at most this many times what was read. Texts reach 20."""

MOST_SECONDS = 60
"""Processor time of the reader of a PDF, Word or HTML file, in seconds."""

MOST_MEMORY = 4 << 30
"""Memory of the reader of a PDF, Word or HTML file, in bytes."""

_BUFFER = 1 << 20


def read_whole(handle: BinaryIO) -> bytes:
    """Read all of a file that is one document.

    Raises:
        InputError: it has more than `MOST_BYTES`.
    """
    pieces, left = [], MOST_BYTES
    while data := handle.read(_BUFFER):
        left -= len(data)
        if left < 0:
            raise InputError(f"has more than {MOST_BYTES >> 20} MB as one document, unpacked; divide it")
        pieces.append(data)
    return b"".join(pieces)
