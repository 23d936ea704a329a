"""Raw text from files: everything readable is read, everything else is named."""

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from docx_files import docx, p
from jmedllm.corpus.documents import Document
from jmedllm.corpus.pipeline.survey import survey
from jmedllm.corpus.readers.compressed import open_any
from jmedllm.corpus.readers.inputs import ByteRange, Skipped, file_of, find_files, kind
from jmedllm.corpus.readers.jsonl import require_field
from jmedllm.corpus.readers.reader import read, read_documents
from jmedllm.errors import InputError
from pdfs import pdf


def message(path: Path, corpus: Path) -> str:
    """The one line of the `InputError` that reading ends in, without the folder of the test."""
    with pytest.raises(InputError) as error:
        list(read_documents(corpus))
    assert "\n" not in str(error.value)
    return str(error.value).replace(str(path), "HERE")


LINES = {
    '{"text": "壊血病。"}': Document("a.jsonl:1", "壊血病。", source="a.jsonl"),
    '{"id": "d1", "title": "病", "text": "壊血病。", "lang": "ja", "source": "w", "license": "CC0"}': Document(
        "d1", "壊血病。", "ja", "w", "CC0", "病"
    ),
    '{"id": 7, "text": "scurvy", "language": "en"}': Document("7", "scurvy", "en", "a.jsonl"),
    '{"id": 0, "text": ""}': Document("0", "", source="a.jsonl"),
    '{"id": null, "text": "x", "lang": null, "source": null}': Document("a.jsonl:1", "x", source="a.jsonl"),
    '{"text": "half a character: \\ud83d."}': Document("a.jsonl:1", "half a character: .", source="a.jsonl"),
    '{"text": "x", "id": "7\\ud83d"}': Document("7", "x", source="a.jsonl"),
}


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
def test_a_line_is_a_document(tmp_path: Path, line: str, encoding: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(line, encoding=encoding)
    assert list(read_documents(file)) == [replace(LINES[line], where=f"{file}:1")]


@pytest.mark.parametrize("name", ["a.txt", "a.md", "A.TXT"])
def test_a_text_file_is_one_document(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + "# 壊血病\n\nビタミンC\n".encode())
    expected = Document(name, "# 壊血病\n\nビタミンC\n", source=tmp_path.name, where=str(tmp_path / name))
    assert list(read_documents(tmp_path / name)) == [expected]


TEXT = "壊血病はビタミンCの欠乏で起こる。"
PAGE = f"<html><head><title>壊血病</title></head><body><p>{TEXT}</p></body></html>"
FILES = {
    "a.txt.gz": (gzip.compress(TEXT.encode("cp932")), TEXT, None),
    "a.md.zst": (zstandard.compress(TEXT.encode("euc_jp")), TEXT, None),
    "a.html": (PAGE.encode("cp932"), TEXT, "壊血病"),
    "a.htm.gz": (gzip.compress(PAGE.encode()), TEXT, "壊血病"),
    "a.pdf": (pdf([[TEXT]]), TEXT + "\f", None),
    "a.docx": (docx(p(TEXT)), TEXT, None),
    "a.docx.gz": (gzip.compress(docx(p(TEXT))), TEXT, None),
    "a.pdf.zst": (zstandard.compress(pdf([[TEXT]])), TEXT + "\f", None),
    "a.jsonl.gz": (gzip.compress(json.dumps({"text": TEXT}).encode()), TEXT, None),
    "a.ndjson.zst": (zstandard.compress(json.dumps({"text": TEXT}).encode()), TEXT, None),
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_read(tmp_path: Path, name: str) -> None:
    raw, text, title = FILES[name]
    (tmp_path / name).write_bytes(raw)
    [document] = read_documents(tmp_path)
    assert (document.text, document.title) == (text, title)


def test_a_folder_is_read_whole_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "b" / "deep").mkdir(parents=True)
    (tmp_path / "c.md").mkdir()
    (tmp_path / "c.md" / "inner.txt").write_text("5")
    (tmp_path / "b" / "deep" / "z.txt").write_text("4")
    (tmp_path / "b" / "a.md").write_text("3")
    (tmp_path / "a.jsonl").write_text('{"text": "1"}\n\n{"text": "2"}\n')
    (tmp_path / "picture.png").write_bytes(b"\xff")
    assert [document.text for document in read_documents(tmp_path)] == ["1", "2", "3", "4", "5"]
    inputs = [tmp_path / "c.md", tmp_path, tmp_path / "a.jsonl"]
    here = tmp_path.name
    names = ["c.md/inner.txt", f"{here}/a.jsonl", f"{here}/b/a.md", f"{here}/b/deep/z.txt"]
    assert list(find_files(inputs).files.values()) == names  # each once


def test_every_file_that_is_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "built").mkdir()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("a.csv", "deep/b.DOC", "deep/er/c.jpg", "notes", "d.tar.gz", "e.csv.gz", ".DS_Store", "f.json"):
        (tmp_path / name).write_bytes(b"x")
    for name in ("empty.txt", "empty.jsonl", "built/corpus.json", "built/removed.jsonl", "built/corpus.md"):
        (tmp_path / name).touch()
    (tmp_path / "built" / "documents-00000.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "good.txt").write_text("x")
    (tmp_path / ".hidden.txt").write_text("x")
    (tmp_path / "~$good.docx").write_text("x")
    (tmp_path / ".git" / "objects").mkdir(parents=True)
    (tmp_path / ".git" / "config.txt").touch()
    (tmp_path / ".git" / "objects" / "1").touch()
    (tmp_path / "lost.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "same.txt").symlink_to(tmp_path / "good.txt")
    os.mkfifo(tmp_path / "pipe.txt")
    found = find_files([tmp_path])
    here = f"{tmp_path.name}/"
    assert [name.removeprefix(here) for name in found.files.values()] == [
        "built/documents-00000.jsonl", "good.txt", "same.txt",
    ]  # fmt: skip
    beside = "belongs to a finished corpus, of which only the documents are read"
    table = "is a table; export the column of its text to .jsonl"
    hidden = "is hidden; rename it if it should be read"
    other = "is of a kind that is not read; export its text to .txt, .md, .docx, .pdf or .jsonl"
    assert {each.where.removeprefix(f"{tmp_path}/"): each.reason for each in found.skipped} == {
        ".DS_Store": hidden,
        ".git/": "is a hidden folder",
        ".hidden.txt": hidden,
        "a.csv": table,
        "built/corpus.json": beside,
        "built/corpus.md": beside,
        "built/removed.jsonl": beside,
        "d.tar.gz": "is an archive; unpack it",
        "deep/b.DOC": "is a document of another program; save it as .docx, .pdf or .html",
        "deep/er/c.jpg": "is an image; run OCR on it if it shows text",
        "e.csv.gz": table,
        "empty.jsonl": "is empty",
        "empty.txt": "is empty",
        "f.json": "is structured data; export its text to .jsonl",
        "lost.txt": "is a broken link",
        "notes": other,
        "pipe.txt": "is not a regular file",
        "~$good.docx": "is a lock file of Word",
        "round": "is a link to a folder; give the folder as a separate input",
    }


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "a.txt").write_text("x")
    scan = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert find_files([tmp_path]).skipped == (Skipped(f"{tmp_path}/locked", "cannot be read: Permission denied"),)


@pytest.mark.parametrize("content", ["", " \n\n"])
def test_a_file_of_no_lines_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    [part] = survey([tmp_path / "a.jsonl"], "text").parts
    assert list(read(part[0])) == [Skipped(str(tmp_path / "a.jsonl"), "has no lines")]


def test_a_file_name_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    file = tmp_path / os.fsdecode("診療.txt".encode("cp932"))
    file.write_text("壊血病", encoding="utf-8")
    [found] = read_documents(tmp_path)
    assert found.id == f"{tmp_path.name}/\\x90f\\x97\\xc3.txt"
    assert found.where == f"{tmp_path}/\\x90f\\x97\\xc3.txt"


def test_unreadable_parts_are_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    lines = ['{"text": "1"}', '{"text": "2"', "[3]", '{"text": 4}', "\xff\x00", "", '{"text": "7"}', "[" * 100_000]
    lines.append('{"text": "9", "count": ' + "9" * 4301 + "}")
    file.write_bytes("\n".join(lines).encode("latin-1"))
    found = [
        each.text if isinstance(each, Document) else (each.where.removeprefix(str(file)), each.reason)
        for each in read(ByteRange(file))
    ]
    assert found == [
        "1",
        (":2", "broken JSON: Expecting ',' delimiter"),
        (":3", "expected a JSON object in braces, found list"),
        (":4", "field 'text' is not text"),
        (":5", "is not text in UTF-8, Shift-JIS, EUC-JP or Windows-1252; convert it to UTF-8"),
        "7",
        (":8", "broken JSON: nested too deeply"),
        (":9", "broken JSON: a number of too many digits"),
    ]


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_lines_in_utf_16_are_reported_once(tmp_path: Path, name: str, order: str) -> None:
    file, lines = tmp_path / name, ("\ufeff" + '{"text": "壊血病。"}\n' * 3).encode(order)
    file.write_bytes(gzip.compress(lines) if name.endswith("gz") else lines)
    assert list(read(ByteRange(file))) == [Skipped(str(file), "is UTF-16; convert it to UTF-8")]
    assert list(read(ByteRange(file, lines.index(b"\n") + 1))) == []


def test_a_partly_scanned_pdf_is_read_and_reported(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf([[TEXT], None]))
    document, gap = read(ByteRange(tmp_path / "a.pdf"))
    assert isinstance(document, Document) and document.text == f"{TEXT}\f\f"
    assert gap == Skipped(str(tmp_path / "a.pdf"), "1 of 2 pages have no text (scanned?); run OCR on the file first")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_a_truncated_archive_is_read_up_to_its_end(tmp_path: Path, name: str) -> None:
    lines = "".join(json.dumps({"text": f"{number} {number**7}"}) + "\n" for number in range(40_000)).encode()
    raw = gzip.compress(lines) if name.endswith("gz") else zstandard.compress(lines)
    (tmp_path / name).write_bytes(raw[: len(raw) // 2])
    *documents, last = read(ByteRange(tmp_path / name))
    assert len(documents) > 10_000
    assert documents[:2] == [
        Document(f"{name}:{n + 1}", f"{n} {n**7}", source=name, where=f"{tmp_path / name}:{n + 1}") for n in (0, 1)
    ]
    assert (
        isinstance(last, Skipped)
        and last.reason == "is truncated: the file ends before its text does; what follows is lost"
    )


@pytest.mark.parametrize(("name", "pack"), [("a.txt.gz", gzip.compress), ("a.txt.zst", zstandard.compress)])
def test_concatenated_archives_are_one_text(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / name).write_bytes(pack("壊血".encode()) + pack("病".encode()))
    assert [document.text for document in read_documents(tmp_path)] == ["壊血病"]
    (tmp_path / name).write_bytes(pack("壊血病".encode())[:-3])
    torn = f"HERE/{name}: is truncated: the file ends before its text does; nothing of it is read"
    assert message(tmp_path, tmp_path) == torn
    (tmp_path / name).write_bytes(b"no archive")
    assert message(tmp_path, tmp_path).startswith(f"HERE/{name}: is broken: ")
    assert message(tmp_path, tmp_path).endswith("; nothing of it is read")


@pytest.mark.parametrize(("name", "pack"), [("a.txt.gz", gzip.compress), ("a.txt.zst", zstandard.compress)])
def test_an_archive_returns_the_requested_number_of_bytes(
    tmp_path: Path, name: str, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / name).write_bytes(pack(b"scurvy") + pack(b" is rare"))
    with open_any(tmp_path / name) as handle:
        found = [handle.read(size) for size in (2, 0, 9, -1, -1, 5)]
    assert found == [b"sc", b"", b"urvy is r", b"are", b"", b""]


def test_a_stretch_of_a_file_is_read_with_its_own_line_numbers(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    lines = [json.dumps({"text": str(number)}) + "\n" for number in range(5)]
    file.write_text("".join(lines))
    start = len("".join(lines[:2]))
    found = list(read(ByteRange(file, start, start + len(lines[2] + lines[3]), 3)))
    assert [(each.where, each.text) for each in found if isinstance(each, Document)] == [
        (f"{file}:3", "2"),
        (f"{file}:4", "3"),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", ".txt"),
        ("a.b.JSONL.GZ", ".jsonl"),
        ("a.gz", None),
        ("a", None),
        ("a.doc", None),
        ("a.txt.zip", None),
    ],
)
def test_the_kind_of_a_file_follows_from_its_name(name: str, expected: str | None) -> None:
    assert kind(Path(name)) == expected


@pytest.mark.parametrize(
    ("where", "file"),
    [("a/b.jsonl:12", "a/b.jsonl"), ("a/b.txt", "a/b.txt"), ("a:3.pdf", "a:3.pdf"), ("b.jsonl.gz:1", "b.jsonl.gz")],
)
def test_the_file_of_a_place(where: str, file: str) -> None:
    assert file_of(where) == file


@pytest.mark.parametrize(
    ("content", "field", "expected"),
    [
        ('{"body": "x", "id": 1}', "text", "1: unknown text field 'text': known: body; choose it with --field"),
        (
            '{"contents": "x"}',
            "content",
            "1: unknown text field 'content': did you mean contents?; choose it with",
        ),
        ('\n{"text": ["x"]}', "text", "2: unknown text field 'text': known: ; choose it with --field"),
    ],
)
def test_a_wrong_field_name_ends_it_at_once(tmp_path: Path, content: str, field: str, expected: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(InputError) as error:
        require_field(tmp_path / "a.jsonl", field)
    assert str(error.value).startswith(f"{tmp_path / 'a.jsonl'}:{expected}")


@pytest.mark.parametrize("content", ["", '{"text": ""}', "broken", "[1]", "9" * 4301])
def test_other_files_are_left_to_be_read(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    require_field(tmp_path / "a.jsonl", "text")


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
    (path / "notes.doc").write_bytes(b"PK")
    return path


def other_kind(path: Path) -> Path:
    (path / "a.doc").write_bytes(b"PK")
    return path / "a.doc"


def no_suffix(path: Path) -> Path:
    (path / "notes").write_text("x")
    return path / "notes"


def no_encoding(path: Path) -> Path:
    (path / "a.txt").write_bytes(b"\x00\xff")
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


THESE = ".jsonl, .ndjson, .txt, .md, .html, .htm, .pdf, .docx, also as .gz or .zst"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (nothing, "corpus HERE/none: no such file or folder"),
        (nothing_txt, "corpus HERE/none.txt: no such file or folder"),
        (nothing_jsonl, "corpus HERE/none.jsonl: no such file or folder"),
        (below_a_file, "corpus HERE/a.md/b.txt: no such file or folder"),
        (empty_folder, f"corpus HERE: no file in this folder can be read; supported: {THESE}"),
        (other_kind, f"corpus HERE/a.doc: cannot read .doc files; supported: {THESE}"),
        (no_suffix, f"corpus HERE/notes: cannot read such files; supported: {THESE}"),
        (
            no_encoding,
            "HERE/a.txt: is not text in UTF-8, Shift-JIS, EUC-JP or Windows-1252; convert it to UTF-8",
        ),
        (no_text, "HERE/a.jsonl:2: field 'text' is not text"),
        (text_is_a_list, "HERE/a.jsonl:1: field 'text' is not text"),
        (broken_line, "HERE/a.jsonl:2: broken JSON: Expecting ',' delimiter"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_unreadable_files_are_named(tmp_path: Path, make: Callable[[Path], Path], expected: str) -> None:
    assert message(tmp_path, make(tmp_path)) == expected


# name: (documents, the first one's source, characters of its text)
REAL = {
    "en_medquad.jsonl": (4602, "abachaa/MedQuAD@577bd37b96c0 CancerGov", 2695),
    "ja_wikipedia_medical.jsonl": (216, "SkelterLabsInc/JaQuAD@23f5d72cc273 (Wikipedia)", 354),
    "ja_laws": (38, "ja_laws", 33220),
}


@pytest.mark.parametrize("name", REAL)
def test_real_corpora_are_read(shared: Path, name: str) -> None:
    documents = list(read_documents(shared / "corpus" / name))
    assert (len(documents), documents[0].source, len(documents[0].text)) == REAL[name]
