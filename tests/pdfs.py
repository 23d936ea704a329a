"""PDF files of a few hundred bytes, made by hand."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

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
        presented = b"".join(
            f"BT /F 10 Tf 1 0 0 1 40 {800 - 14 * number} Tm <{line.encode('utf-16-be').hex()}> Tj ET\n".encode()
            for number, line in enumerate(lines or ())
        )
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 2000 842] /Contents {len(objects) + 2} 0 R "
            "/Resources << /Font << /F 3 0 R >> >> >>".encode(),
            stream(SCAN if lines is None else presented),
        ]
    kids = " ".join(f"{number} 0 R" for number in range(5, len(objects) + 1, 2))
    objects[1] = f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode()
    return (
        b"%PDF-1.5\n"
        + b"".join(b"%d 0 obj\n%s\nendobj\n" % (number, body) for number, body in enumerate(objects, 1))
        + b"trailer << /Root 1 0 R /Size %d >>\n%%%%EOF\n" % (len(objects) + 1)
    )


@dataclass(frozen=True)
class Style:
    """How a producer of PDF writes superscripts and subscripts.

    Attributes:
        size: of the raised characters, in sizes of the text.
        up: rise of superscripts, in sizes of the text; `down`: of subscripts.
        moved: whether the text position is moved up; otherwise the operator Ts raises the text.
        matrix: how the text is turned or scaled.
        rotate: degrees by which the page is turned, clockwise, when it is shown.
    """

    size: float
    up: float
    down: float
    moved: bool = False
    matrix: tuple[float, float, float, float] = (1, 0, 0, 1)
    rotate: int = 0


def marked_pdf(lines: Sequence[str], style: Style, size: float = 10, font: bytes = PREDEFINED) -> bytes:
    """A PDF file of one page of lines in which ^{..} is raised and _{..} lowered."""
    presented = [
        _marked_line(line, style, size, 700 - 2 * size * number).encode() for number, line in enumerate(lines)
    ]
    a, b, c, d = style.matrix
    return _one_page(b"q %f %f %f %f 60 60 cm\n%s\nQ" % (a, b, c, d, b"\n".join(presented)), font, style.rotate)


def _marked_line(line: str, style: Style, size: float, height: float) -> str:
    operators, along = [f"BT 1 0 0 1 0 {height} Tm"], 0.0
    for mark, text in re.findall(r"(?:([\^_])\{)?([^{}^_]+)\}?", line):
        rise = {"^": style.up, "_": -style.down, "": 0.0}[mark] * size
        smaller = size * style.size if mark else size
        place = f"1 0 0 1 {along} {height + rise} Tm" if style.moved else f"{rise} Ts"
        operators.append(f"/F {smaller} Tf {place} <{text.encode('utf-16-be').hex()}> Tj")
        along += smaller * len(text)
    return "\n".join((*operators, "ET"))


def drawn_pdf(lines: Sequence[str]) -> bytes:
    """A PDF file whose font draws the digits of a second set raised, on the same baseline, as ^{..}."""
    objects, procedures = [], []
    for name, box in (("x", (0, 0, 500, 700)), ("y", (0, 350, 350, 750))):
        left, bottom, right, top = box
        glyph = f"600 0 {left} {bottom} {right} {top} d1 {left} {bottom} {right - left} {top - bottom} re f"
        procedures.append(f"/{name} {5 + len(objects)} 0 R")
        objects.append(stream(glyph.encode()))
    low, high = range(0x20, 0x7F), range(0xA0, 0xAA)
    names = " ".join(["32", *["/x"] * len(low), "160", *["/y"] * len(high)])
    codes = f"<20> <7e> <0020>\n<a0> <a9> <{ord('0'):04x}>"
    font = (
        f"<< /Type /Font /Subtype /Type3 /FontBBox [0 0 600 800] /FontMatrix [.001 0 0 .001 0 0] "
        f"/CharProcs << {' '.join(procedures)} >> /Encoding << /Type /Encoding /Differences [{names}] >> "
        f"/FirstChar 32 /LastChar 169 /Widths [{'600 ' * 138}] /Resources << >> /ToUnicode 4 0 R >>"
    )
    raised = {ord("0") + digit: 0xA0 + digit for digit in range(10)}
    coded = [re.sub(r"\^\{(\d+)\}", lambda run: run[1].translate(raised), line) for line in lines]
    presented = "\n".join(
        f"BT /F 10 Tf 1 0 0 1 40 {700 - 20 * number} Tm <{line.encode('latin-1').hex()}> Tj ET"
        for number, line in enumerate(coded)
    )
    table = (
        f"begincmap\n1 begincodespacerange\n<00> <ff>\nendcodespacerange\n2 beginbfrange\n{codes}\nendbfrange\nendcmap"
    )
    return _file([font.encode(), stream(table.encode()), *objects], presented.encode())


def _one_page(content: bytes, font: bytes, rotate: int) -> bytes:
    return _file([font, stream(PRIVATE)], content, rotate)


def _file(fonts: Sequence[bytes], content: bytes, rotate: int = 0) -> bytes:
    """A file of one page; the first of the objects, number 3, is its font."""
    number = 3 + len(fonts)
    page = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [-1000 -1000 2000 2000] /Contents %d 0 R "
        b"/Rotate %d /Resources << /Font << /F 3 0 R >> >> >>" % (number + 1, rotate)
    )
    pages = b"<< /Type /Pages /Kids [%d 0 R] /Count 1 >>" % number
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", pages, *fonts, page, stream(content)]
    return (
        b"%PDF-1.5\n"
        + b"".join(b"%d 0 obj\n%s\nendobj\n" % (place, body) for place, body in enumerate(objects, 1))
        + b"trailer << /Root 1 0 R /Size %d >>\n%%%%EOF\n" % (len(objects) + 1)
    )


def stream(content: bytes) -> bytes:
    return b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content)
