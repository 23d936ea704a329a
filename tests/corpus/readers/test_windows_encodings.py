"""Characters of Windows in Japanese encodings: what hospitals' files of twenty years are full of."""

import json
from functools import cache
from pathlib import Path
from random import Random

import pytest

from jmedllm.corpus.documents import Document
from jmedllm.corpus.readers.decode import decode
from jmedllm.corpus.readers.html import html_text
from jmedllm.corpus.readers.inputs import ByteRange
from jmedllm.corpus.readers.reader import read
from jmedllm.corpus.readers.windows_encodings import WINDOWS
from jmedllm.errors import InputError

SENTENCES = {
    "a dose": "①アスピリン100㎎を1日3回、②水分㌘単位で管理する。",
    "units alone": "㎎ ㎏ ㎝ ㏄ ㍑ ㌘",
    "a company": "㈱武田、№5、℡03-1234-5678、昭和㍻明治",
    "stages": "病期Ⅲの患者（ⅱ型）では①手術②放射線",
    "names": "髙橋先生と﨑山先生",
    "in English": "Give 5 ㎎ of drug ① daily; stage Ⅲ.",
    "signs": "∑と√と∟の記号",
    "plain": "急性心筋梗塞の患者、72歳の男性。",
    "plain and long": "既往歴に高血圧と糖尿病があり、内服は①アムロジピン5㎎、②メトホルミン500㎎である。" * 20,
    "plain with half-width kana": "ﾋﾞﾀﾐﾝC欠乏症の患者にｱｽﾋﾟﾘﾝを投与する。",
    "half-width kana alone": "ｱｽﾋﾟﾘﾝ",
    "half-width kana and kanji": "処方ﾊｱｽﾋﾟﾘﾝ錠",
}


@cache
def places() -> dict[str, tuple[int, int]]:
    """Row and cell of each character of JIS X 0208 and of NEC's rows, as CP932 has them."""
    found: dict[str, tuple[int, int]] = {}
    for lead in (*range(0x81, 0xA0), *range(0xE0, 0xEF)):
        for number, trail in enumerate((*range(0x40, 0x7F), *range(0x80, 0xFD))):
            row = 2 * (lead - (0x81 if lead < 0xA0 else 0xC1)) + 1 + number // 94
            character = bytes((lead, trail)).decode("cp932", "replace")
            if character[0] not in "\ufffd＼～∥－￠￡￢":  # the standard's own are other characters
                found.setdefault(character, (row, number % 94 + 1))
    return found


def as_cp51932(text: str) -> bytes:
    return b"".join(
        sign.encode("euc_jp") if sign not in places() else bytes(0xA0 + place for place in places()[sign])
        for sign in text
    )


def as_cp50221(text: str) -> bytes:
    """Escapes for ASCII, half-width kana and everything else."""
    made, now = b"", b"\x1b(B"
    for sign in text:
        if sign.isascii():
            escape, code = b"\x1b(B", sign.encode()
        elif "\uff61" <= sign <= "\uff9f":
            escape, code = b"\x1b(I", bytes((ord(sign) - 0xFF61 + 0x21,))
        else:
            escape, code = b"\x1b$B", bytes(0x20 + place for place in places()[sign])
        made += (b"" if escape == now else escape) + code
        now = escape
    return made + (b"" if now == b"\x1b(B" else b"\x1b(B")


ENCODINGS = {
    "utf-8": lambda text: text.encode(),
    "cp932": lambda text: text.encode("cp932"),
    "cp51932": as_cp51932,
    "cp50221": as_cp50221,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", SENTENCES)
def test_sentences_are_read_in_each_encoding(name: str, encoding: str) -> None:
    text = SENTENCES[name]
    if name == "half-width kana alone" and encoding in ("cp932", "cp51932"):
        pytest.skip("the same bytes are kanji in the other encoding")
    for around in ("", "HbA1c 6.5% (NGSP)\r\n"):
        assert decode(ENCODINGS[encoding](around + text + around))[0] == around + text + around


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x8f\xf3\xf3", "ⅰ"),
        (b"\x8f\xf3\xfe\x8f\xf4\xa1", "ⅡⅢ"),
        (b"\x8f\xf4\xab", "㈱"),
        (b"\x8f\xf4\xae", "炻"),
        (b"\x8f\xf4\xfe", "黑"),
        (b"\x8f\xb0\xa1", "丂"),  # JIS X 0212 itself
        (b"\xad\xa1\xfc\xe2", "①髙"),
    ],
)
def test_codes_of_eucjp_ms(raw: bytes, text: str) -> None:
    assert raw.decode("euc_jp", WINDOWS) == text
    assert decode("糖尿病の診断".encode("euc_jp") + raw) == ("糖尿病の診断" + text, "euc_jp")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x1b$B-!\x1b(B",
        b"x" * 30_000 + b"\x1b$B-!\x1b(B",
        b"\x1b$@-!\x1b(J",
        b"\x1b&@\x1b$B-!\x1b(B",
    ],
    ids=["at the start", "behind 30 kB of ASCII", "JIS of 1978", "JIS of 1990"],
)
def test_escapes_of_iso_2022_jp(raw: bytes) -> None:
    text, name = decode(raw)
    assert (text.lstrip("x\x1b&@"), name) == ("①", "iso2022_jp")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x1b$B$\x1b(B", "begins as ISO-2022-JP but is not: illegal multibyte sequence; convert it to UTF-8"),
        (
            as_cp51932("血液検査の結果①と②。" * 9) + b"\xad",
            "is EUC-JP with a broken byte at offset 198; fix or replace the file",
        ),
    ],
)
def test_broken_files_are_reported(raw: bytes, message: str) -> None:
    with pytest.raises(InputError) as error:
        decode(raw)
    assert str(error.value) == message


def test_a_page_and_lines_of_json(tmp_path: Path) -> None:
    text = SENTENCES["a dose"]
    page = f'<html><head><meta charset="euc-jp"></head><body><p>{text}</p></body></html>'
    assert html_text(as_cp51932(page))[0] == text
    line = json.dumps({"text": text}, ensure_ascii=False) + "\n"
    for encode in (as_cp51932, as_cp50221):
        (tmp_path / "a.jsonl").write_bytes(encode(line * 2))
        found = list(read(ByteRange(tmp_path / "a.jsonl")))
        assert [each.text for each in found if isinstance(each, Document)] == [text, text]


@pytest.mark.parametrize("encoding", ["cp51932", "cp50221", "cp932"])
def test_snippets_of_real_text(shared: Path, encoding: str) -> None:
    """Snippets of the pharmacopoeia of 24 characters, each with a dose in it: at most one of 200 is misread."""
    lines = (shared / "corpus" / "ja_pharmacopoeia.jsonl").read_text(encoding="utf-8").splitlines()
    random, right = Random(0), 0
    for _ in range(200):
        text = json.loads(random.choice(lines))["text"]
        start = random.randrange(max(1, len(text) - 24))
        snippet = f"{random.randrange(100)}㎎" + "".join(
            sign for sign in text[start : start + 24] if sign.isascii() or sign in places()
        )
        right += decode(ENCODINGS[encoding](snippet))[0] == snippet
    assert right >= 199
