"""The text of a Word document (.docx), by mammoth, which converts it to HTML.

mammoth skips elements that it does not know, together with their text. `simplify` therefore rewrites furigana,
equations, fields and text boxes as plain runs first. Only XML parts are unpacked, up to a limit, and a document type
declaration is refused: a small file can neither unpack to gigabytes nor expand entities.
"""

import re
import zlib
from io import BytesIO
from itertools import count
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError
from zipfile import BadZipFile, ZipFile

from jmedllm.corpus.readers.docx_xml import simplify
from jmedllm.corpus.readers.file_text import FileText
from jmedllm.corpus.readers.html import readable_text
from jmedllm.errors import InputError

MOST_UNPACKED = 32 << 20
"""Bytes of XML of a document. 1,000 dense pages have about 10 MB."""

_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
_ENTRY_ENCRYPTED = 1
_LOCKED = "is locked by a password; save an open copy"

_COMMENTS = re.compile(r"(?:^|/)comments\w*\.xml$")
_TEXT = re.compile(r"(?:^|/)(?:document|footnotes|endnotes)\d*\.xml$")

_STYLES = "p[style-name^='toc '] => !\np[style-name^='TOC '] => !"
"""A table of contents repeats the headings, with page numbers."""

_NOTE_MARK = re.compile(r"<sup><a href=\"#(?:foot|end)note-[^\"]*\"[^>]*>(\[\d+\])</a></sup>")
_NOTE = re.compile(r"<li id=\"(?:foot|end)note-[^\"]*\">(<p>)?")
_BACK = re.compile(r"\s*<a href=\"#(?:foot|end)note-ref-[^\"]*\">↑</a>")

_LOST = re.compile(rb"<w:altChunk\b|ProgID=\"Equation")
"""Embedded documents, and equations that are objects of another program."""

_PACKAGE_ERRORS = (
    BadZipFile, ElementTree.ParseError, EOFError, ExpatError, NotImplementedError, OSError, RuntimeError, ValueError,
    zlib.error,
)  # fmt: skip
"""Errors of zipfile and the XML parser on damaged files."""

_MAMMOTH_ERRORS = (AttributeError, IndexError, KeyError, TypeError)
"""Errors of mammoth on documents with missing parts or attributes."""


def docx_text(raw: bytes) -> FileText:
    """Return the text of a document: paragraphs, headings, lists and tables in order, then the notes, numbered.

    Tracked insertions are part of the text. Deletions, comments, headers, footers and the table of contents are not.

    Raises:
        InputError: the file is broken, needs a password, unpacks to too much, or has no text.
    """
    if raw.startswith(_OLE):
        if _ENCRYPTED in raw:
            raise InputError(_LOCKED)
        raise InputError("is a .doc file named .docx; save it as .docx")
    try:
        package, lost = _simplified(raw)
        html = _html(package)
    except RecursionError:
        raise InputError("nests its elements too deeply to be read; save it again, or export it as .pdf") from None
    except _PACKAGE_ERRORS as error:
        raise _broken(error) from None
    numbers = count(1)
    html = _BACK.sub("", _NOTE_MARK.sub(r"\1", html))
    html = _NOTE.sub(lambda note: f"<li>{note[1] or ''}[{next(numbers)}] ", html)
    text, _ = readable_text(html)
    if not text:
        raise InputError("has no text")
    gap = f"{lost:,} embedded equations or documents cannot be read; export the file as .pdf" if lost else None
    return FileText(text, gap=gap)


def _simplified(raw: bytes) -> tuple[BytesIO, int]:
    """Return the package with only its simplified XML parts, and the number of embedded objects whose text is lost."""
    left, lost, output = MOST_UNPACKED, 0, BytesIO()
    with ZipFile(BytesIO(raw)) as package, ZipFile(output, "w") as simplified:
        for entry in package.infolist():
            if not entry.filename.endswith((".xml", ".rels")) or _COMMENTS.search(entry.filename):
                continue
            if entry.flag_bits & _ENTRY_ENCRYPTED:
                raise InputError(_LOCKED)
            with package.open(entry) as part:
                content = part.read(left + 1)
            left -= len(content)
            if left < 0:
                limit = f"{MOST_UNPACKED >> 20} MB"
                raise InputError(f"unpacks to more than {limit} of XML; divide it, or export its text as .txt")
            root = ElementTree.fromstring(content, ElementTree.XMLParser(target=_WithoutDoctype()))
            if _TEXT.search(entry.filename):
                lost += len(_LOST.findall(content))
                content = ElementTree.tostring(simplify(root), encoding="utf-8")
            simplified.writestr(entry.filename, content)
    output.seek(0)
    return output, lost


class _WithoutDoctype(ElementTree.TreeBuilder):
    """Builds a tree, and refuses a document type declaration, which alone can define entities."""

    def doctype(self, name: str, public: str, system: str) -> None:
        raise InputError("has a document type declaration, which no word processor writes; export its text as .txt")


def _html(package: BytesIO) -> str:
    """Convert a simplified package to HTML, without its images."""
    import mammoth

    try:
        html: str = mammoth.convert_to_html(package, style_map=_STYLES, convert_image=lambda image: []).value
    except _MAMMOTH_ERRORS as error:
        raise _broken(error) from None
    return html


def _broken(error: Exception) -> InputError:
    reason = " ".join(str(error).split()) or "no reason given"
    return InputError(f"is a broken .docx ({type(error).__name__}: {reason}); save it again")
