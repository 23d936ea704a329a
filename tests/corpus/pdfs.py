"""PDF files of a few hundred bytes, made by hand."""

from collections.abc import Sequence

PREDEFINED = (
    b"<< /Type /Font /Subtype /Type0 /BaseFont /HeiseiMin-W3 /Encoding /UniJIS-UTF16-H /DescendantFonts "
    b"[<< /Type /Font /Subtype /CIDFontType0 /BaseFont /HeiseiMin-W3 /DW 1000 /CIDSystemInfo "
    b"<< /Registry (Adobe) /Ordering (Japan1) /Supplement 6 >> >>] >>"
)
"""A Japanese font that every reader of PDF knows by name."""

NAMELESS = (
    b"<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /DescendantFonts "
    b"[<< /Type /Font /Subtype /CIDFontType2 /BaseFont /X /CIDSystemInfo "
    b"<< /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>] /ToUnicode 4 0 R >>"
)
"""A font whose table says of no glyph which character it shows."""

PRIVATE = b"begincmap\n1 beginbfrange\n<3000> <30ff> <e000>\nendbfrange\nendcmap"


SCAN = b"q 500 0 0 800 0 0 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x80 EI Q"
"""What shows an image all over a page."""


def pdf(pages: Sequence[Sequence[str] | None], font: bytes = PREDEFINED) -> bytes:
    """A PDF file of pages of lines, or scanned where they are None."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"", font, stream(PRIVATE)]
    for lines in pages:
        shown = b"".join(
            f"BT /F 10 Tf 1 0 0 1 40 {800 - 14 * number} Tm <{line.encode('utf-16-be').hex()}> Tj ET\n".encode()
            for number, line in enumerate(lines or ())
        )
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 2000 842] /Contents {len(objects) + 2} 0 R "
            "/Resources << /Font << /F 3 0 R >> >> >>".encode(),
            stream(SCAN if lines is None else shown),
        ]
    kids = " ".join(f"{number} 0 R" for number in range(5, len(objects) + 1, 2))
    objects[1] = f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode()
    return (
        b"%PDF-1.5\n"
        + b"".join(b"%d 0 obj\n%s\nendobj\n" % (number, body) for number, body in enumerate(objects, 1))
        + b"trailer << /Root 1 0 R /Size %d >>\n%%%%EOF\n" % (len(objects) + 1)
    )


def stream(content: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content)
