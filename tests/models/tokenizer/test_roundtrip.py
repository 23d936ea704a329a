"""A tokenizer gives text back as it was, or is refused with what it loses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from jmedllm.errors import InputError
from jmedllm.models.tokenizer.load import read_tokenizer

Description = dict[str, Any]
"""Content of a tokenizer.json."""


def metaspace(description: Description) -> Description:
    """Byte-level pieces behind the splitter of a SentencePiece model, as transformers 5.17 saves Llama's class."""
    split = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return description | {"pre_tokenizer": split, "decoder": split}


def first_normalized(**normalizer: Any) -> Callable[[Description], Description]:
    return lambda description: description | {"normalizer": normalizer}


def sentencepiece(byte_fallback: bool) -> Callable[[Description], Description]:
    """A vocabulary of ASCII alone, with bytes for everything else or without."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127))]
    decoders: list[Description] = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    return lambda description: {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [[piece, -1.0 - (number < 257)] for number, piece in enumerate(pieces)],
            "byte_fallback": byte_fallback,
        },
    }


def written(source: Path, folder: Path, change: Callable[[Description], Description]) -> Path:
    description = change(json.loads((source / "tokenizer.json").read_text(encoding="utf-8")))
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(description), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}', encoding="utf-8")
    return folder


# what was done to a tokenizer of bytes: what is lost, and how a text comes back
LOSSY: dict[str, tuple[Callable[[Description], Description], str]] = {
    "Llama's splitter around byte-level pieces": (metaspace, "and spaces: "),
    "no bytes for what the vocabulary lacks": (sentencepiece(byte_fallback=False), "loses the characters 壊血病"),
    "line ends become spaces": (
        first_normalized(type="Replace", pattern={"Regex": r"\s+"}, content=" "),
        r"loses line ends: '選択肢:\na. 壊血病\nb. 脚気\n\n答え: a' comes back as '選択肢: a. 壊",
    ),
    "spaces are dropped": (
        first_normalized(type="Replace", pattern={"String": " "}, content=""),
        "loses spaces: 'Vitamin C deficiency causes 壊血病です。' comes back as 'VitaminCdeficiency",
    ),
    "voiced marks are dropped": (
        first_normalized(type="Sequence", normalizers=[{"type": "NFD"}, {"type": "StripAccents"}]),
        "loses the characters で",
    ),
    "emoji are dropped": (
        first_normalized(type="Replace", pattern={"Regex": "[💊🙏]"}, content=""),
        "loses the characters 💊🙏: 'お大事に💊🙏' comes back as 'お大事に'",
    ),
    "pieces come back apart": (lambda description: description | {"decoder": None}, "comes back as "),
}


@pytest.mark.parametrize("case", LOSSY)
def test_a_tokenizer_that_loses_text_is_refused(tiny_model: Path, tmp_path: Path, case: str) -> None:
    change, expected = LOSSY[case]
    folder = written(tiny_model, tmp_path / "t", change)
    with pytest.raises(InputError) as error:
        read_tokenizer(folder)
    line = str(error.value)
    assert line.startswith(f"tokenizer of {folder}: ") and expected in line and "\n" not in line


# what a tokenizer does to a text on purpose: what is said of it
HARMLESS: dict[str, tuple[Callable[[Description], Description], str]] = {
    "as it is": (lambda description: description, ""),
    "bytes for what an English vocabulary lacks": (sentencepiece(byte_fallback=True), ""),
    "composed characters": (first_normalized(type="NFC"), ""),
    "a space before the text": (first_normalized(type="Prepend", prepend=" "), ""),
    "one width, no raised digits": (
        first_normalized(type="NFKC"),
        "'白血球９×10⁹/L、ﾋﾞﾀﾐﾝC５㎎①' comes back as '白血球9×109/L、ビタミンC5mg1'",
    ),
    "one space for many": (
        first_normalized(type="Replace", pattern={"Regex": r"[ \t]+"}, content=" "),
        "'two  spaces\\tand a tab' comes back as 'two spaces and a tab'",
    ),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_another_form_of_the_same_text_is_reported(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, expected = HARMLESS[case]
    folder = written(tiny_model, tmp_path / "t", change)
    read_tokenizer(folder)
    said = f"note: tokenizer of {folder}: writes some characters in another form: {expected}\n" if expected else ""
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("name", ["llm-jp-v2.2", "qwen2"])
def test_real_tokenizers_lose_nothing(shared: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    read_tokenizer(shared / "tokenizers" / name)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("named", ["LlamaTokenizer", "GPT2Tokenizer"])
def test_the_file_replaces_a_class_that_encodes_differently(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], named: str
) -> None:
    folder = shutil.copytree(shared / "tokenizers" / "llm-jp-v2.2", tmp_path / "t")
    config = folder / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | {"tokenizer_class": named}))
    found = read_tokenizer(folder)
    assert f"class {named} encodes text differently from tokenizer.json, which is used" in capsys.readouterr().err
    text = "68歳の男性。HbA1c 7.9 %, 脈拍104/分"
    plain = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert found(text)["input_ids"] == plain.encode(text).ids
