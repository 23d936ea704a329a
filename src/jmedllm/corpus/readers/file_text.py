"""Return type of file readers."""

from typing import NamedTuple


class FileText(NamedTuple):
    """The text of a file.

    Attributes:
        text: the text; "\\f" ends a page where the format has pages.
        title: title in the file's metadata.
        gap: description of unreadable parts, with the fix; None if everything was read.
    """

    text: str
    title: str | None = None
    gap: str | None = None
