"""HTML: the reading text, in Japanese encodings too, without what a browser shows around it."""

import pytest

from jmedllm.corpus.readers.html import html_text
from jmedllm.errors import InputError

MENU = "".join(f'<a href="/{number}">項目{number}</a> ' for number in range(6))
LINKED = "、".join(f"<a href=/>{organ}</a>" for organ in ("肝", "腎", "肺", "心臓"))
BODIES = {
    "paragraphs": ("<h1>糖尿病</h1><p>慢性。</p><p>治療は<b>食事</b>。</p>", "糖尿病\n\n慢性。\n\n治療は食事。"),
    "furniture": ("<nav>ホーム</nav><header>病院</header><p>本文</p><footer>©</footer><script>x</script>", "本文"),
    "a header with the heading": ("<header><h1>糖尿病</h1></header><p>本文</p>", "糖尿病\n\n本文"),
    "a menu that says not what it is": (f"<div class=m>{MENU}</div><p>本文</p>", "本文"),
    "links in a sentence": (f"<p>{LINKED}の診察で異常なし。</p>", "肝、腎、肺、心臓の診察で異常なし。"),
    "only the main part": ("<div>広告の文</div><main><p>本文</p></main>", "本文"),
    "exponents": ("10<sup>3</sup>個 Ca<sup>2+</sup> H<sub>2</sub>O HbA<sub>1c</sub>", "10³個 Ca²⁺ H₂O HbA1c"),
    "furigana": ("<p><ruby>糖尿病<rp>(</rp><rt>とうにょうびょう</rt><rp>)</rp></ruby>です</p>", "糖尿病です"),
    "a table": ("<table><tr><th>型<th>薬</tr><tr><td>1型<td>イン<br>スリン</table>", "型\t薬\n\n1型\tイン スリン"),
    "a list": ("<ul><li>口渇<li>多飲</ul>", "口渇\n\n多飲"),
    "line breaks": ("一行目<br>二行目", "一行目\n二行目"),
    "unclosed tags": ("<p>糖尿病<b>は<p>疾患", "糖尿病は\n\n疾患"),
    "preformatted": ("<pre>a\nb</pre>", "a\nb"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_the_text_of_a_page(name: str) -> None:
    body, expected = BODIES[name]
    page = f"<html><head><title>題 名</title></head><body>{body}</body></html>"
    assert html_text(page.encode()) == (expected, "題 名", None)


@pytest.mark.parametrize(
    ("declared", "written"),
    [("Shift_JIS", "cp932"), ("x-sjis", "cp932"), ("EUC-JP", "euc_jp"), ("utf-8", "utf-8"), ("utf-8", "cp932"),
     ("unknown", "euc_jp"), (None, "cp932"), ("iso-8859-1", "utf-8"), ("iso-8859-1", "cp932"),
     ("Shift_JIS", "utf-8"), ("EUC-JP", "utf-8-sig"), ("utf-8", "utf-16"), ("utf-16", "cp932"),
     ("undefined", "utf-8"), ("undefined", "cp932"), ("idna", "euc_jp"), ("rot13", "cp932"), (None, "iso2022_jp")],
)  # fmt: skip
def test_a_page_is_read_whatever_it_declares(declared: str | None, written: str) -> None:
    page = f"<html><head>{meta(declared)}</head><body><p>壊血病はビタミンCの欠乏で起こる。</p></body></html>"
    assert html_text(page.encode(written))[0] == "壊血病はビタミンCの欠乏で起こる。"


@pytest.mark.parametrize(
    ("declared", "written"),
    [("utf-16", "ascii"), ("undefined", "ascii"), ("iso-8859-1", "cp1252"), ("gb18030", "gb18030")],
)
def test_a_western_or_chinese_page_is_read_whatever_it_declares(declared: str, written: str) -> None:
    text = {"ascii": "Scurvy is rare", "cp1252": "It’s a naïve T cell.", "gb18030": "坏血病由缺乏维生素引"}[written]
    page = f"<html><head>{meta(declared)}</head><body><p>{text}</p></body></html>"
    assert html_text(page.encode(written))[0] == text


def test_a_broken_utf_8_byte_is_reported_whatever_the_page_declares() -> None:
    page = f"<html><head>{meta('iso-8859-1')}</head><body><p>尿糖と血糖を測る。</p></body></html>".encode()
    with pytest.raises(InputError, match=r"^is UTF-8 with a broken byte at offset 115; fix or replace the file$"):
        html_text(page.replace("を".encode(), b"\xff"))


def meta(charset: str | None) -> str:
    declared = f'<meta http-equiv="Content-Type" content="text/html; charset={charset}">'
    return declared if charset else ""


@pytest.mark.parametrize("page", ["", "<html><body><nav>ホーム</nav><script>draw()</script></body></html>"])
def test_a_page_without_text_is_reported(page: str) -> None:
    with pytest.raises(InputError, match=r"^has no text between its tags; a page that a script"):
        html_text(page.encode())


def test_tags_nested_too_deeply_are_reported() -> None:
    with pytest.raises(InputError, match=r"^nests its tags too deeply"):
        html_text(("<div>" * 3000 + "x").encode())
