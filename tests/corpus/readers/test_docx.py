"""Word documents: the text that a reader of the document sees, in its order."""

import re
import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from docx_files import docx, p, r
from jmedllm.corpus.readers import docx as docx_module
from jmedllm.corpus.readers.docx import docx_text
from jmedllm.errors import InputError

RAISED, LOWERED = '<w:vertAlign w:val="superscript"/>', '<w:vertAlign w:val="subscript"/>'
CELLS = "".join(f"<w:tr>{''.join(f'<w:tc>{p(cell)}</w:tc>' for cell in row)}</w:tr>" for row in (("薬", "量"), "AB"))
DELETED = f"<w:tr><w:trPr><w:del/></w:trPr><w:tc>{p('旧')}</w:tc></w:tr>"
BREAKS = "<w:r><w:br/><w:t>乙</w:t><w:cr/><w:t>丙</w:t><w:tab/><w:t>丁</w:t></w:r>"
RUBY = f"<w:r><w:ruby><w:rubyPr/><w:rt>{r('とうにょう')}</w:rt><w:rubyBase>{r('糖尿')}</w:rubyBase></w:ruby></w:r>"
BOX = f"<w:txbxContent>{p('注意')}</w:txbxContent>"
TWICE = (
    f"<w:r><mc:AlternateContent><mc:Choice><w:drawing><wps:txbx>{BOX}</wps:txbx></w:drawing></mc:Choice>"
    f"<mc:Fallback><w:pict><v:textbox>{BOX}</v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r>"
)
FIELD = (
    '<w:r><w:fldChar w:fldCharType="begin"/></w:r><w:r><w:instrText>HYPERLINK "https://x.jp"</w:instrText></w:r>'
    '<w:r><w:fldChar w:fldCharType="separate"/></w:r>' + r("指針") + '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
)
LINKS = "".join(f"<w:tc>{p(f'<w:hyperlink>{r(name)}</w:hyperlink>')}</w:tc>" for name in ("甲", "乙", "丙", "丁"))


def m(name: str, **parts: str) -> str:
    """An element of an equation."""
    inner = "".join(f"<m:{part}><m:r><m:t>{text}</m:t></m:r></m:{part}>" for part, text in parts.items())
    return f"<m:{name}>{inner}</m:{name}>"


BODIES = {
    "paragraphs and a heading": (p("糖尿病", style="H1") + p("慢性の", "疾患。"), "糖尿病\n\n慢性の疾患。"),
    "a table": (f"{p('前')}<w:tbl>{CELLS}</w:tbl>{p('後')}", "前\n\n薬\t量\n\nA\tB\n\n後"),
    "a table of links": (f"<w:tbl><w:tr>{LINKS}</w:tr></w:tbl>", "甲\t乙\t丙\t丁"),
    "exponents": (p("10", r("9", RAISED), "/L Ca", r("2+", RAISED), " H", r("2", LOWERED), "O"), "10⁹/L Ca²⁺ H₂O"),
    "exponents as LibreOffice writes them": (
        p("10", r("9", '<w:position w:val="8"/><w:sz w:val="19"/>')) + p("上", r("下", '<w:position w:val="2"/>')),
        "10⁹\n\n上下",
    ),
    "an insertion": (p("毎日", f"<w:ins>{r('2回')}</w:ins>", "服用"), "毎日2回服用"),
    "a deletion": (p("毎日", "<w:del><w:r><w:delText>3回</w:delText></w:r></w:del>", "服用"), "毎日服用"),
    "a deleted row": (f"<w:tbl>{DELETED}{CELLS}</w:tbl>", "薬\t量\n\nA\tB"),
    "a move": (p(f"<w:moveFrom>{r('甲')}</w:moveFrom>", "乙", f"<w:moveTo>{r('甲')}</w:moveTo>"), "乙甲"),
    "a comment": (p("本文", '<w:commentRangeStart w:id="0"/>', '<w:r><w:commentReference w:id="0"/></w:r>'), "本文"),
    "furigana": (p(RUBY, "病"), "糖尿病"),
    "a simple field": (p("図", f"<w:fldSimple>{r('1')}</w:fldSimple>"), "図1"),
    "a link that is a field": (p(FIELD, "を参照"), "指針を参照"),
    "line breaks and tabs": (p("甲", BREAKS), "甲\n乙\n丙 丁"),
    "a text box, written twice": (p("本文", TWICE), "本文\n\n注意"),
    "a form field": (f"<w:sdt><w:sdtPr><w:alias/></w:sdtPr><w:sdtContent>{p('氏名')}</w:sdtContent></w:sdt>", "氏名"),
    "hidden text": (p("見える", r("見えない", "<w:vanish/>"), r("字", '<w:vanish w:val="0"/>')), "見える字"),
    "a table of contents": (p("糖尿病\t3", style="TOC1") + p("糖尿病", style="H1"), "糖尿病"),
    "a power": (p("x", f"<m:oMath>{m('sSup', e='10', sup='−3')}</m:oMath>", "mol"), "x10⁻³mol"),
    "a fraction": (p(f"<m:oMath>{m('f', num='体重', den='身長²')}</m:oMath>"), "体重/身長²"),
    "an index": (p(f"<m:oMathPara><m:oMath>{m('sSub', e='CO', sub='2')}</m:oMath></m:oMathPara>"), "CO₂"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_the_text_of_a_document(name: str) -> None:
    body, expected = BODIES[name]
    assert docx_text(docx(body)) == (expected, None, None)


def test_notes_follow_the_text_under_their_numbers() -> None:
    first, second = (f'<w:r><w:footnoteReference w:id="{number}"/></w:r>' for number in (2, 1))
    notes = f'<w:footnote w:id="1">{p("後の注")}</w:footnote><w:footnote w:id="2">{p("先の注")}</w:footnote>'
    text = docx_text(docx(p("5 mg", first, "を", second, "投与"), notes)).text
    assert text == "5 mg[1]を[2]投与\n\n[1] 先の注\n\n[2] 後の注"


def test_headers_and_footers_are_left_out() -> None:
    header = '<w:hdr xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:p/>社外秘</w:hdr>'
    assert docx_text(docx(p("本文"), header1=header)).text == "本文"


@pytest.mark.parametrize(
    "lost", ['<w:altChunk r:id="r9"/>', '<w:object><o:OLEObject ProgID="Equation.3"/></w:object>']
)
def test_embedded_text_that_is_lost_is_counted(lost: str) -> None:
    body = p("式", f"<w:r>{lost}</w:r>") + p("別", f"<w:r>{lost}</w:r>")
    gap = "2 embedded equations or documents cannot be read; export the file as .pdf"
    assert docx_text(docx(body)) == ("式\n\n別", None, gap)


def bomb() -> bytes:
    """About 10 kB for each part of 10 MB."""
    with ZipFile(output := BytesIO(), "w", ZIP_DEFLATED) as package:
        for number in range(8):
            package.writestr(f"word/document{number}.xml", b"<w>" + b" " * (10 << 20) + b"</w>")
    return output.getvalue()


def locked_zip() -> bytes:
    """A package whose entries say that they are encrypted."""
    raw = bytearray(docx(p("x")))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        for match in re.finditer(re.escape(mark), bytes(raw)):
            raw[match.start() + offset] |= 1
    return bytes(raw)


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "壊血病"}">' for n in range(20))


def short_entry() -> bytes:
    """A document whose directory promises more bytes than the file has."""
    raw = bytearray(docx(p("x")))
    entry = raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02", raw.index(b"PK\x01\x02") + 1) + 1)
    raw[entry + 10 : entry + 12] = bytes(2)  # stored, not compressed
    raw[entry + 20 : entry + 28] = (10**6).to_bytes(4, "little") * 2
    return bytes(raw)


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100)
BROKEN = {
    "an old document": (OLE, "is a .doc file named .docx; save it as .docx"),
    "a password": (OLE + "EncryptedPackage".encode("utf-16-le"), "is locked by a password; save an open copy"),
    "a locked archive": (locked_zip(), "is locked by a password; save an open copy"),
    "no archive": (b"hello", "is a broken .docx (BadZipFile: File is not a zip file); save it again"),
    "a torn archive": (docx(p("x"))[:300], "is a broken .docx (BadZipFile: File is not a zip file); save it again"),
    "a damaged archive": (
        docx(p("x" * 999)).replace(b"document.xml", b"document.xm_", 1),
        "is a broken .docx (BadZip",
    ),
    "an archive that ends too early": (short_entry(), "is a broken .docx (EOFError: no reason given); save it again"),
    "another archive": (
        b"PK\x05\x06" + bytes(18),
        "is a broken .docx (OSError: Could not",
    ),
    "broken XML": (docx("<w:p>"), "is a broken .docx (ParseError: mismatched tag"),
    "no text": (docx(p("")), "has no text"),
    "an empty table": (docx(f"<w:tbl><w:tr><w:tc>{p()}</w:tc></w:tr></w:tbl>"), "has no text"),
    "a bomb of spaces": (bomb(), "unpacks to more than 32 MB of XML; divide it, or export its text as .txt"),
    "a bomb of entities": (
        docx(p("&e19;"), head=f"<!DOCTYPE w [{ENTITIES}]>"),
        "has a document type declaration, which no word processor writes; export its text as .txt",
    ),
    "nested too deeply": (docx("<w:tbl><w:tr><w:tc>" * 5000 + "</w:tc></w:tr></w:tbl>" * 5000), "nests its elements"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_unreadable_input_is_reported_in_one_line(name: str) -> None:
    raw, message = BROKEN[name]
    with pytest.raises(InputError) as error:
        docx_text(raw)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_a_part_that_understates_its_size_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docx_module, "MOST_UNPACKED", 1000)
    with pytest.raises(InputError, match="unpacks to more than"):
        docx_text(docx(p("x" * 2000)))


PAGE = (
    "<h1>壊血病の診療</h1><p>血小板は10<sup>9</sup>/L、H<sub>2</sub>O。<a href='https://x.jp'>指針</a>を参照。</p>"
    "<ol><li>投与する<ul><li>歯肉</ul></ol><table><tr><td>薬<td>100 mg</table>"
)


@pytest.mark.skipif(not shutil.which("soffice"), reason="LibreOffice is not installed")
def test_a_document_of_libreoffice(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(f"<meta charset=utf-8>{PAGE}", encoding="utf-8")
    form = ["--convert-to", "docx:MS Word 2007 XML", "--infilter=HTML (StarWriter)", "--outdir", str(tmp_path)]
    home = f"-env:UserInstallation={(tmp_path / 'home').as_uri()}"
    subprocess.run(
        ["soffice", home, "--headless", *form, str(tmp_path / "a.html")], check=True, capture_output=True, timeout=200
    )
    expected = "壊血病の診療\n\n血小板は10⁹/L、H₂O。指針を参照。\n\n投与する\n\n歯肉\n\n薬\t100 mg"
    assert docx_text((tmp_path / "a.docx").read_bytes()).text == expected
