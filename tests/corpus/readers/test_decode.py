"""Encodings: what Japanese and English files come in is read, and read right."""

import json
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jmedllm.corpus.readers.decode import decode
from jmedllm.errors import InputError

SHORT = {
    "a diagnosis": "糖尿病",
    "kana": "ビタミンＣの欠乏",
    "kanji alone": "急性心筋梗塞",
    "half-width kana": "ﾋﾞﾀﾐﾝC欠乏症の患者。",
    "a unit": "体温38℃、脈拍90/分。",
    "one kanji among letters": "HbA1c 6.5%以上",
    "a sentence": "壊血病はビタミンCの欠乏で起こる。",
    "numbered": "①高血圧 ②脂質異常症",
}


@pytest.mark.parametrize("encoding", ["utf-8", "cp932", "euc_jp", "iso2022_jp_2", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", SHORT)
def test_short_japanese_is_read(name: str, encoding: str) -> None:
    if encoding in ("euc_jp", "iso2022_jp_2") and name in ("numbered", "half-width kana"):
        pytest.skip("characters of Windows, or in EUC two bytes each")
    assert decode(SHORT[name].encode(encoding))[0] == SHORT[name]


WESTERN = [
    "It’s a naïve T cell.",
    "Sjögren’s syndrome",
    "“Fungal Diseases” – a review",
    "37 °C, 5 µg, ±2 %",
    "H\nThe acid–base",
]


@pytest.mark.parametrize("text", WESTERN)
def test_windows_1252_is_not_taken_for_japanese(text: str) -> None:
    assert decode(text.encode("cp1252")) == (text, "cp1252")


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"\xef\xbb\xbfscurvy", ("scurvy", "utf-8")),
        ("\ufeff壊血病".encode("utf-16-be"), ("壊血病", "utf-16")),
        (b"", ("", "utf-8")),
        (b"plain", ("plain", "utf-8")),
        ("漢字".encode("euc_jp"), ("漢字", "euc_jp")),
        ("はしご髙".encode("cp932"), ("はしご髙", "cp932")),  # beyond plain Shift-JIS
    ],
)
def test_the_encoding_is_named(raw: bytes, expected: tuple[str, str]) -> None:
    assert decode(raw) == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\x00\x01\x02\xff", "is not text in UTF-8, Shift-JIS, EUC-JP or Windows-1252; convert it to UTF-8"),
        (b"\xef\xbb\xbf\xff", "begins as utf-8-sig but is not: invalid start byte; convert it to UTF-8"),
        (b"\x81\x8d\x81 \x81", "is not text in UTF-8, Shift-JIS, EUC-JP or Windows-1252; convert it to UTF-8"),
    ],
)
def test_input_that_is_no_text_is_reported(raw: bytes, message: str) -> None:
    with pytest.raises(InputError) as error:
        decode(raw)
    assert str(error.value) == message


ENGLISH = ("The patient’s blood sugar was high. " * 20).encode()
BROKEN = {
    "English, cut in a quote": (ENGLISH[:-20] + b"\xe2\x80", "UTF-8", len(ENGLISH) - 20),
    "English, a byte overwritten": (ENGLISH.replace(b"\x80", b"Z", 1), "UTF-8", 11),
    "English, the first quote late": (
        b"x" * 30_000 + ENGLISH.replace(b"\x80", b"Z", 1),
        "UTF-8",
        30_011,
    ),
    "ten characters, cut": ("壊血病はビタミンＣ。".encode()[:-1], "UTF-8", 27),
    "a dozen characters, a byte added": (
        "壊血病は".encode() + b"\xff" + "欠乏で起こる。".encode(),
        "UTF-8",
        12,
    ),
    "a whole text, cut": (("壊血病はビタミンＣの欠乏。" * 90).encode()[:-2], "UTF-8", 3507),
    "Shift-JIS, cut": (("壊血病はビタミンＣの欠乏。" * 9).encode("cp932")[:-1], "Shift-JIS", 232),
    "EUC-JP, cut": (("壊血病はビタミンＣの欠乏。" * 9).encode("euc_jp")[:-1], "EUC-JP", 232),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_byte_does_not_make_it_another_encoding(name: str) -> None:
    raw, encoding, offset = BROKEN[name]
    with pytest.raises(InputError) as error:
        decode(raw)
    assert str(error.value) == f"is {encoding} with a broken byte at offset {offset}; fix or replace the file"


@given(st.text())
def test_utf_8_is_never_taken_for_anything_else(text: str) -> None:
    raw = text.encode()
    if not raw.startswith(b"\xef\xbb\xbf") and b"\x1b$" not in raw:
        assert decode(raw) == (text, "utf-8")


@given(st.binary())
def test_any_bytes_are_text_or_an_error(raw: bytes) -> None:
    try:
        text, _ = decode(raw)
    except InputError:
        return
    assert "\ufffd" not in text or "\ufffd" in raw.decode(errors="ignore")


def real_texts(shared: Path, source: str) -> list[str]:
    name = {"ja": "ja_pharmacopoeia.jsonl", "en": "en_openstax_microbiology.jsonl"}[source]
    lines = (shared / "corpus" / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize(("encoding", "named"), [("utf-8", "UTF-8"), ("cp932", "Shift-JIS"), ("euc_jp", "EUC-JP")])
def test_real_texts_cut_in_mid_character_are_not_misread(shared: Path, encoding: str, named: str) -> None:
    texts = [text[: text.rindex("．") + 1] for text in real_texts(shared, "ja") if "．" in text[100:]]
    assert len(texts) > 100
    for text in texts:
        with pytest.raises(InputError, match=rf"^is {named} with a broken byte at "):
            decode(text.encode(encoding, "ignore")[:-1])


@pytest.mark.parametrize(("encoding", "source"), [("cp932", "ja"), ("euc_jp", "ja"), ("cp1252", "en")])
def test_snippets_of_real_text(shared: Path, encoding: str, source: str) -> None:
    """Of 200 snippets of 32 characters from real corpora at most one is misread."""
    texts, random, right, count = real_texts(shared, source), Random(0), 0, 0
    while count < 200:
        text = random.choice(texts)
        start = random.randrange(max(1, len(text) - 32))
        snippet = text[start : start + 32]
        raw = snippet.encode(encoding, "ignore")
        if not raw.isascii() and raw.decode(encoding) == snippet:
            count += 1
            right += decode(raw)[0] == snippet
    assert right >= 199
