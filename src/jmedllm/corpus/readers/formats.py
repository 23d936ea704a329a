"""Readers of file formats with one document per file, by suffix."""

from collections.abc import Callable

from jmedllm.corpus.readers.decode import decode
from jmedllm.corpus.readers.docx import docx_text
from jmedllm.corpus.readers.file_text import FileText
from jmedllm.corpus.readers.html import html_text
from jmedllm.corpus.readers.pdf import pdf_text


def plain_text(raw: bytes) -> FileText:
    """Return the text of a text or Markdown file.

    Raises:
        InputError: no supported encoding decodes it.
    """
    return FileText(decode(raw)[0])


FORMATS: dict[str, Callable[[bytes], FileText]] = {
    ".txt": plain_text,
    ".md": plain_text,
    ".html": html_text,
    ".htm": html_text,
    ".pdf": pdf_text,
    ".docx": docx_text,
}

ISOLATED = frozenset(suffix for suffix, reader in FORMATS.items() if reader is not plain_text)
"""Formats whose readers are libraries in C, or take long on hostile files. They run in a process of their own."""
