"""The text layer of a PDF file, by pypdfium2 (PDFium, the reader in Chrome)."""

import re
from typing import Any

from jmedllm.corpus.readers.file_text import FileText
from jmedllm.corpus.readers.pdf_superscripts import marked_text
from jmedllm.errors import InputError

_PASSWORD = 4
"""PDFium's FPDF_ERR_PASSWORD."""

_LINE_HYPHEN = "\ufffe"
"""PDFium writes this character for a hyphen at the end of a line, and joins the line to the next."""

_MEANINGLESS = re.compile(r"[\ue000-\uf8ff\ufffd\U000f0000-\U0010ffff]")
_UNREADABLE = 0.2
"""Maximum share of characters without a meaning in a usable text layer. Its fonts may not name their characters."""


def pdf_text(raw: bytes) -> FileText:
    """Return the text of all pages, each followed by "\\f", with the lines of the page, and a note on scanned pages.

    Raises:
        InputError: the file is broken or needs a password; no page has text, as in a scan; or the text layer has no
            character codes.
    """
    import pypdfium2

    try:
        with pypdfium2.PdfDocument(raw) as document:
            pages = [_page_text(document, number) for number in range(len(document))]
            scans = sum(not page.strip() and _has_image(document, number) for number, page in enumerate(pages))
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD:
            raise InputError("is locked by a password; save an open copy") from None
        raise InputError(f"is a broken PDF: {error}") from None
    text = "".join(f"{page}\f" for page in pages)
    count = len("".join(text.split()))
    if not count:
        raise InputError(f"is a scan: none of its {len(pages)} pages has a text layer; run OCR on it first")
    if len(_MEANINGLESS.findall(text)) > _UNREADABLE * count:
        raise InputError("has a text layer without character codes; run OCR on it first")
    gap = f"{scans} of {len(pages)} pages have no text (scanned?); run OCR on the file first"
    return FileText(text, gap=gap if scans else None)


def _page_text(document: Any, number: int) -> str:
    page = document[number]
    layer = page.get_textpage()
    try:
        text = marked_text(layer)
    finally:
        layer.close()
        page.close()
    return text.replace("\r\n", "\n").replace(_LINE_HYPHEN, "-\n")


def _has_image(document: Any, number: int) -> bool:
    from pypdfium2.raw import FPDF_PAGEOBJ_IMAGE

    page = document[number]
    try:
        return any(True for _ in page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE]))
    finally:
        page.close()
