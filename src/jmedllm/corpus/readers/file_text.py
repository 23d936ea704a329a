"""What a reader of one file format returns."""

from typing import NamedTuple


class FileText(NamedTuple):
    """The text of a file.

    Attributes:
        text: the text; "\\f" ends a page where the format has pages.
        title: the title that the file gives itself.
        gap: what of the file could not be read, and the fix; None if all of it was read.
    """

    text: str
    title: str | None = None
    gap: str | None = None
