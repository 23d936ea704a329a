"""PDF: the text layer, page by page, and one line where there is none."""

import pytest

from jmedllm.corpus.cleaning.clean import clean
from jmedllm.corpus.readers.pdf import pdf_text
from jmedllm.errors import InputError
from pdfs import NAMELESS, pdf


def test_pages_end_in_form_feeds() -> None:
    made = pdf([["糖尿病は、インスリンの", "作用不足で起こる。"], ["Scurvy is a lack of", "vitamin C."]])
    assert pdf_text(made) == (
        "糖尿病は、インスリンの\n作用不足で起こる。\fScurvy is a lack of\nvitamin C.\f",
        None,
        None,
    )


@pytest.mark.parametrize(
    ("pages", "gap"),
    [
        ([["壊血病"], *[None] * 9], "9 of 10 pages have no text (scanned?); run OCR on the file first"),
        ([["壊血病"], [], None], "1 of 3 pages have no text (scanned?); run OCR on the file first"),
        ([["壊血病"], []], None),
    ],
    ids=["scans behind a title page", "a scan and a blank page", "a blank page"],
)
def test_pages_without_text_are_reported_and_the_others_read(pages: list[list[str] | None], gap: str | None) -> None:
    assert pdf_text(pdf(pages)) == ("壊血病" + "\f" * len(pages), None, gap)


def test_a_report_of_three_pages_becomes_running_text() -> None:
    body = [
        ["本症は、慢性の高血糖を来す疾患である。診断に", "は空腹時血糖値とＨｂＡ１ｃの測定を要する。"],
        ["治療の基本は食事療法と運動療法であり、目標に", "達しない場合には薬物療法を加える。"],
        ["合併症には網膜症、腎症及び神経障害があり、い", "ずれも罹病期間と血糖の管理の良否による。"],
    ]
    pages = [["糖尿病診療の手引き 2024年版", *lines, f"- {number} -"] for number, lines in enumerate(body, 11)]
    cleaned = clean(pdf_text(pdf(pages))[0])
    assert cleaned.text == "\n".join("".join(lines) for lines in body).replace("ＨｂＡ１ｃ", "HbA1c")
    assert {each.rule for each in cleaned.removed} == {"running head", "page number"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (pdf([[], [], []]), "is a scan: none of its 3 pages has a text layer; run OCR on it first"),
        (pdf([["あいう"]], NAMELESS), "has a text layer without character codes; run OCR on it first"),
        (b"%PDF-1.5 torn", "is a broken PDF: Failed to load document (PDFium: Data format error)."),
        (b"", "is a broken PDF: Failed to load document (PDFium: Data format error)."),
    ],
    ids=["scan", "fonts without codes", "torn", "empty"],
)
def test_a_file_without_text_is_reported(raw: bytes, message: str) -> None:
    with pytest.raises(InputError) as error:
        pdf_text(raw)
    assert str(error.value) == message


def test_a_locked_file_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    import pypdfium2

    def refuse(*_: object) -> None:
        error = pypdfium2.PdfiumError("Failed to load document (PDFium: Incorrect password error).")
        error.err_code = 4
        raise error

    monkeypatch.setattr(pypdfium2, "PdfDocument", refuse)
    with pytest.raises(InputError, match=r"^is locked by a password; save an open copy$"):
        pdf_text(b"")
