"""Raised and lowered characters of PDF files: a dose must not become another one."""

import pytest

from jmedllm.corpus.cleaning.clean import clean
from jmedllm.corpus.readers.pdf import pdf_text
from pdfs import Style, drawn_pdf, marked_pdf, pdf

STYLES = {
    "a word processor": Style(0.65, 0.33, 0.14),
    "a small rise": Style(0.58, 0.33, 0.08),
    "a typesetter": Style(0.7, 0.36, 0.15, moved=True),
    "a browser": Style(0.833, 0.393, 0.196, moved=True),
    "Ts alone": Style(1, 0.4, 0.2),
    "turned by 90°": Style(0.65, 0.33, 0.14, matrix=(0, 1, -1, 0), rotate=90),
    "turned by 180°": Style(0.65, 0.33, 0.14, moved=True, matrix=(-1, 0, 0, -1), rotate=180),
    "turned by 270°": Style(0.65, 0.33, 0.14, matrix=(0, -1, 1, 0), rotate=270),
    "aslant": Style(0.65, 0.33, 0.14, matrix=(0.94, 0.34, -0.34, 0.94)),
    "scaled": Style(0.65, 0.33, 0.14, matrix=(0.5, 0, 0, 0.5)),
}
UNITS = {
    "10^{1} mmol/L": "10¹ mmol/L",
    "4.5×10^{9}/L": "4.5×10⁹/L",
    "血小板数15×10^{4}/μLである。": "血小板数15×10⁴/μLである。",
    "体表面積1.73m^{2}、25cm^{3}": "体表面積1.73m²、25cm³",
    "5×10^{-3} mol/L": "5×10⁻³ mol/L",
    "10^{−12}M": "10⁻¹²M",
    "Ca^{2+}とK^{+}": "Ca²⁺とK⁺",
    "H_{2}O、SpO_{2} 98%": "H₂O、SpO₂ 98%",
    "SO_{4}^{2-}イオン": "SO₄²⁻イオン",
    "^{131}I-MIBGを投与": "¹³¹I-MIBGを投与",
    "BMI 31 kg/m^{2}.^{12} Next": "BMI 31 kg/m².¹² Next",
    "log_{10} 5": "log₁₀ 5",
    "報告がある^{1)}。": "報告がある¹⁾。",
    "10^{6.5}個": "10^6.5個",
}


@pytest.mark.parametrize("style", STYLES)
def test_units_and_exponents_keep_their_meaning(style: str) -> None:
    for number, line in enumerate(UNITS):
        text = clean(pdf_text(marked_pdf(["本文の行である。", line, "つづく行。"], STYLES[style]))[0]).text
        assert UNITS[line] in text.replace("\n", ""), f"{number}: {line}"


@pytest.mark.parametrize("style", [name for name in STYLES if STYLES[name].size < 1])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("HbA_{1c}は6.5%", "HbA1cは6.5%"),
        ("^{99m}Tcを5 mCi", "99mTcを5 mCi"),
        ("the 1^{st} and 2^{nd} day", "the 1st and 2nd day"),
        ("37^{o}C", "37°C"),
        ("群^{注1)}では", "群注1)では"),
        ("効果がある^{3,4)}。", "効果がある³,⁴⁾。"),
        ("2^{n} cells", "2ⁿ cells"),
    ],
)
def test_characters_without_superscript_signs(style: str, line: str, expected: str) -> None:
    assert clean(pdf_text(marked_pdf([line], STYLES[style]))[0]).text == expected


@pytest.mark.parametrize(
    ("line", "style", "expected"),
    [
        ("WHO ^{2020} SMALL", Style(0.7, 0, 0), "WHO 2020 SMALL"),
        ("10^{とうにょう} 20", Style(0.5, 0.9, 0), "10とうにょう 20"),
        ("A^{ 10 drop capital, and text}", Style(0.3, 0.5, 0), "A 10 drop capital, and text"),
        ("12^{ mg of a text in a slightly higher line 10 20 30}", Style(0.8, 0.2, 0),
         "12 mg of a text in a slightly higher line 10 20 30"),
        ("10^{9}", Style(1.4, 0.3, 0), "109"),
    ],
    ids=["small capitals", "furigana", "a drop capital", "a longer line beside it", "a larger number"],
)  # fmt: skip
def test_text_that_is_no_superscript_is_unchanged(line: str, style: Style, expected: str) -> None:
    assert "".join(pdf_text(marked_pdf([line], style))[0].split()) == "".join(expected.split())


def test_lines_and_heads_stay_apart() -> None:
    lines = ["Table 3", "12 mg 20 mg", "1. 3 mg/kg", "2. 5 mg/kg", "10"]
    assert pdf_text(pdf([lines]))[0] == "\n".join(lines) + "\f"


def test_digits_that_a_font_draws_raised() -> None:
    lines = ["WBC 10^{9}/L", "31 kg/m^{2}, 10-20 mg", "as shown^{12} 345"]
    text = pdf_text(drawn_pdf(lines))[0]
    assert text == "WBC 10⁹/L\n31 kg/m², 10-20 mg\nas shown¹² 345\f"
