"""Raw text from files: everything readable is read, everything else is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jmedllm.corpus.read import Document, read_documents
from jmedllm.errors import InputError


def message(path: Path, corpus: Path) -> str:
    """The one line of the `InputError` that reading ends in, without the folder of the test."""
    with pytest.raises(InputError) as error:
        list(read_documents(corpus))
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(path), "HERE")


LINES = {
    '{"text": "壊血病。"}': Document("a.jsonl:1", "壊血病。"),
    '{"id": "d1", "text": "壊血病。", "lang": "ja", "source": "wiki", "license": "CC BY-SA 4.0"}': Document(
        "d1", "壊血病。", "ja", "wiki", "CC BY-SA 4.0"
    ),
    '{"id": 7, "text": "scurvy", "language": "en"}': Document("7", "scurvy", "en"),
    '{"id": 0, "text": ""}': Document("0", ""),
    '{"id": null, "text": "x", "lang": null, "source": null}': Document("a.jsonl:1", "x"),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_a_document(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(line, encoding="utf-8")
    assert list(read_documents(tmp_path / "a.jsonl")) == [LINES[line]]


@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_a_text_file_is_one_document(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + "# 壊血病\n\nビタミンC\n".encode())
    assert list(read_documents(tmp_path / name)) == [Document(name, "# 壊血病\n\nビタミンC\n", source=name)]


def test_a_folder_is_read_whole_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "c.md").mkdir()
    (tmp_path / "c.md" / "inner.txt").write_text("5")
    (tmp_path / "b" / "deep" / "z.txt").write_text("4")
    (tmp_path / "b" / "a.md").write_text("3")
    (tmp_path / "a.jsonl").write_text('{"text": "1"}\n\n{"text": "2"}\n')
    (tmp_path / "picture.png").write_bytes(b"\xff")
    assert [document.text for document in read_documents(tmp_path)] == ["1", "2", "3", "4", "5"]


def nothing(path: Path) -> Path:
    return path / "none"


def nothing_jsonl(path: Path) -> Path:
    return path / "none.jsonl"


def nothing_txt(path: Path) -> Path:
    return path / "none.txt"


def below_a_file(path: Path) -> Path:
    (path / "a.md").write_text("x")
    return path / "a.md" / "b.txt"


def empty_folder(path: Path) -> Path:
    (path / "notes.docx").write_bytes(b"PK")
    return path


def other_kind(path: Path) -> Path:
    (path / "a.pdf").write_bytes(b"%PDF")
    return path / "a.pdf"


def no_suffix(path: Path) -> Path:
    (path / "notes").write_text("x")
    return path / "notes"


def shift_jis(path: Path) -> Path:
    (path / "a.txt").write_bytes("壊血病".encode("shift-jis"))
    return path


def no_text(path: Path) -> Path:
    (path / "a.jsonl").write_text('{"text": "x"}\n{"body": "y"}\n')
    return path


def text_is_a_list(path: Path) -> Path:
    (path / "a.jsonl").write_text('{"text": ["x"]}\n')
    return path / "a.jsonl"


def broken_line(path: Path) -> Path:
    (path / "a.jsonl").write_text('{"text": "x"}\n{"text": "y"\n')
    return path


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (nothing, "corpus HERE/none: no such file or folder"),
        (nothing_txt, "corpus HERE/none.txt: no such file or folder"),
        (nothing_jsonl, "HERE/none.jsonl: no such file"),
        (below_a_file, "corpus HERE/a.md/b.txt: cannot be read: Not a directory"),
        (empty_folder, "corpus HERE: no .jsonl, .txt, .md files below this folder"),
        (other_kind, "corpus HERE/a.pdf: cannot read .pdf files; use .jsonl, .txt, .md"),
        (no_suffix, "corpus HERE/notes: cannot read such files; use .jsonl, .txt, .md"),
        (shift_jis, "corpus HERE/a.txt: not UTF-8: invalid start byte; convert it to UTF-8"),
        (no_text, "HERE/a.jsonl:2: field 'text' must be a string; it holds the document"),
        (text_is_a_list, "HERE/a.jsonl:1: field 'text' must be a string; it holds the document"),
        (broken_line, "HERE/a.jsonl:2: broken JSON: Expecting ',' delimiter; mend or remove the line"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_read_is_named(tmp_path: Path, make: Callable[[Path], Path], expected: str) -> None:
    assert message(tmp_path, make(tmp_path)) == expected


# name: (documents, the first one without its text, characters of its text)
REAL = {
    "en_medquad.jsonl": (
        4602,
        Document("0000001_1-1", "", "en", "abachaa/MedQuAD@577bd37b96c0 CancerGov", "CC BY 4.0"),
        2695,
    ),
    "ja_wikipedia_medical.jsonl": (
        216,
        Document(
            "jaquad-ヒトに由来する生薬",
            "",
            "ja",
            "SkelterLabsInc/JaQuAD@23f5d72cc273 (Wikipedia)",
            "CC BY-SA 3.0",
        ),
        354,
    ),
    "ja_laws": (38, Document("323AC0000000068.md", "", source="323AC0000000068.md"), 33220),
}


@pytest.mark.parametrize("name", REAL)
def test_real_corpora_are_read(shared: Path, name: str) -> None:
    documents = list(read_documents(shared / "corpus" / name))
    assert (len(documents), replace(documents[0], text=""), len(documents[0].text)) == REAL[name]
