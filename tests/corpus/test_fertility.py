"""What tokens spell and how finely tokenizers cut, on strings whose pieces are known."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jmedllm.cli import app
from jmedllm.corpus.documents import Document
from jmedllm.corpus.fertility import read_terms, term_fertility, text_fertility
from jmedllm.errors import InputError
from jmedllm.models.tokenizer.load import read_tokenizer
from jmedllm.models.tokenizer.pieces import BYTES, pieces, scheme, whole


@pytest.fixture(scope="module")
def qwen2(shared: Path) -> Any:
    return read_tokenizer(shared / "tokenizers" / "qwen2")


@pytest.fixture(scope="module")
def llm_jp(shared: Path) -> Any:
    return read_tokenizer(shared / "tokenizers" / "llm-jp-v2.2")


def spelled(tokenizer: Any, text: str) -> list[bytes]:
    known = pieces(tokenizer)
    return [known[number] for number in tokenizer(text, add_special_tokens=False)["input_ids"]]


SPELLED = {
    "a kanji that Qwen2 cuts": ("qwen2", "値", [b"\xe5\x80", b"\xa4"]),
    "words of Qwen2": ("qwen2", "糖尿病の HbA1c", ["糖尿病", "の", " H", "b", "A", "1", "c"]),
    "a line feed inside a token": ("qwen2", "。\n", ["。\n"]),
    "a special token": ("qwen2", "<|endoftext|>", ["<|endoftext|>"]),
    "characters of llm-jp": ("llm_jp", "糖尿病", [" ", "糖", "尿", "病"]),
    "byte fallback of llm-jp": ("llm_jp", "𩸽", [" ", b"\xf0", b"\xa9", b"\xb8", b"\xbd"]),
    "a tab of llm-jp": ("llm_jp", "a\tb", [" a", "\t", "b"]),
}


@pytest.mark.parametrize("name", SPELLED)
def test_spelled(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer, text, expected = SPELLED[name]
    found = spelled(request.getfixturevalue(tokenizer), text)
    assert found == [each.encode() if isinstance(each, str) else each for each in expected]


@pytest.mark.parametrize("name", ["qwen2", "llm_jp"])
@pytest.mark.parametrize("text", ["潰瘍性大腸炎（UC）は，𠮷野 5 mg/dL。\n\tthe é 🩺 \ufffd", "x"])
def test_pieces_join_to_the_text(name: str, text: str, request: pytest.FixtureRequest) -> None:
    joined = b"".join(spelled(request.getfixturevalue(name), text))
    assert joined.removeprefix(b" ") == text.encode()


def test_every_byte_has_its_character() -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    assert set(BYTES) == set(ByteLevel.alphabet())
    assert sorted(BYTES.values()) == list(range(256))
    written = {byte: character for character, byte in BYTES.items()}
    for text in ("\x00 \x7f\xad", "値é\n"):
        [(piece, _)] = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
        assert piece == "".join(written[byte] for byte in text.encode())


WHOLE = {b"a": "a", "値".encode(): "値", b"\xe5\x80": None, b"\xa4": None, "�".encode(): "�"}


@pytest.mark.parametrize("piece", WHOLE)
def test_whole(piece: bytes) -> None:
    assert whole(piece) == WHOLE[piece]


COUNTED = {
    # characters, bytes, tokens, single, partial
    "qwen2, kanji cut in two": ("qwen2", "値", (1, 3, 2, 0, 2)),
    "qwen2, one word and one character": ("qwen2", "糖尿病の", (4, 12, 2, 1, 0)),
    "qwen2, a space before a letter": ("qwen2", "a b", (3, 3, 2, 2, 0)),
    "llm-jp, its mark and three characters": ("llm_jp", "糖尿病", (3, 9, 4, 4, 0)),
    "llm-jp, byte fallback": ("llm_jp", "𩸽", (1, 4, 5, 1, 4)),
}


@pytest.mark.parametrize("name", COUNTED)
def test_counts(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer, text, expected = COUNTED[name]
    [row] = text_fertility({"t": request.getfixturevalue(tokenizer)}, [Document("d", text)])
    assert (row.characters, row.bytes, row.tokens, row.single, row.partial) == expected


def test_languages_are_counted_apart(qwen2: Any, llm_jp: Any) -> None:
    texts = ("糖尿病である。", "Scurvy.", " ", "脚気")
    documents = [Document(str(number), text) for number, text in enumerate(texts)]
    rows = text_fertility({"q": qwen2, "l": llm_jp}, documents)
    assert [(row.language, row.tokenizer, row.documents) for row in rows] == [
        ("ja", "q", 2), ("ja", "l", 2), ("en", "q", 1), ("en", "l", 1)
    ]  # fmt: skip


def test_terms_are_encoded_as_in_running_text(qwen2: Any, llm_jp: Any) -> None:
    terms = ["糖尿病", "糖尿病", "  ", "diabetes", "腱膜瘤"]
    first, second = term_fertility({"q": qwen2, "l": llm_jp}, "name", terms)
    assert (first.terms, first.tokens, first.one_token) == (3, 1 + 1 + 3, 2)
    assert (second.terms, second.tokens, second.one_token) == (3, 3 + 1 + 3, 1)
    assert (round(first.low, 4), round(first.high, 4)) == (0.2077, 0.9385)


def test_empty_input_is_one_line(qwen2: Any) -> None:
    with pytest.raises(InputError, match="the texts are empty"):
        text_fertility({"q": qwen2}, [Document("d", " \n")])
    with pytest.raises(InputError, match="column 'ja' is empty"):
        term_fertility({"q": qwen2}, "ja", [" "])


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    fast = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    fast.decoder = decoders.WordPiece()
    with pytest.raises(InputError, match="neither byte-level BPE nor SentencePiece"):
        scheme(PreTrainedTokenizerFast(tokenizer_object=fast))


TERMS = {
    "no such column": (b"ja,en\na,b\n", "unknown column 'label'"),
    "empty": (b"", "unknown column 'label'"),
    "Shift-JIS": ("label\n壊血病\n".encode("cp932"), "not UTF-8"),
    "an open quote": (b'label\n"a\n', "broken CSV"),
}


@pytest.mark.parametrize("name", TERMS)
def test_broken_terms_are_one_line(name: str, tmp_path: Path) -> None:
    content, message = TERMS[name]
    (tmp_path / "terms.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_terms(tmp_path / "terms.csv", ["label"])
    assert "terms.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_terms_with_a_byte_order_mark_and_short_rows(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("\ufeffja_label,en_label\n壊血病,scurvy\n脚気\n", encoding="utf-8")
    assert read_terms(tmp_path / "t.csv", ["ja_label", "en_label"]) == {
        "ja_label": ["壊血病", "脚気"],
        "en_label": ["scurvy", ""],
    }


def test_command(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ビタミンCの欠乏で壊血病になる。", encoding="utf-8")
    (tmp_path / "t.csv").write_text("ja_label,en_label\n壊血病,scurvy\n", encoding="utf-8")
    asked = ["tokens", "--tokenizer", str(tiny_model), str(tmp_path / "a.txt"), "--terms"]
    result = CliRunner().invoke(app, [*asked, str(tmp_path / "t.csv"), "--json"])
    counts = json.loads(result.stdout)
    assert counts["texts"][0]["characters"] == 16
    assert [row["column"] for row in counts["terms"]] == ["ja_label", "en_label"]
    result = CliRunner().invoke(app, [*asked, str(tmp_path / "t.csv")])
    assert result.stdout.count("\n| ") == 2 + 4
    assert f"| ja | {tiny_model} | 1 | " in result.stdout


WRONG = {
    "nothing to count": ([], "give files or folders of text, or --terms"),
    "no such tokenizer": (["--tokenizer", "./nowhere"], "model './nowhere': no such directory"),
    "a folder without a tokenizer": (["--tokenizer", "EMPTY", "EMPTY/a.txt"], "no tokenizer"),
    "no such text": (["EMPTY/b.txt"], "no such file or folder"),
    "a text without text": (["EMPTY/a.txt"], "the texts are empty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_commands_are_one_line(name: str, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" \n", encoding="utf-8")
    options, message = WRONG[name]
    filled = [option.replace("EMPTY", str(tmp_path)) for option in options]
    if name == "no such tokenizer":
        filled += [str(tmp_path / "a.txt")]
    result = CliRunner().invoke(app, ["tokens", "--tokenizer", str(tiny_model), *filled])
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
