"""Files that are made to fill the memory, to take for ever or to crash a reader: each is skipped by its name."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from docx_files import docx, p, r
from jmedllm.corpus.cleaning.clean import clean
from jmedllm.corpus.documents import Document
from jmedllm.corpus.pipeline.build import BuildConfig, build
from jmedllm.corpus.readers import compressed, jsonl, limits
from jmedllm.corpus.readers.convert import convert
from jmedllm.corpus.readers.html import html_text
from jmedllm.corpus.readers.inputs import ByteRange, Skipped
from jmedllm.corpus.readers.pdf import pdf_text
from jmedllm.corpus.readers.reader import read
from jmedllm.errors import InputError
from pdfs import pdf

MB = 1 << 20
GOOD = "胃潰瘍の患者には酸の分泌を抑える薬を使う。"
ADVICE = "leave it out, or export its text as .txt"
SLOW = docx(p(r("x")) * 30_000)
"""A document that keeps its reader busy for seconds."""


def found(file: Path) -> list[str]:
    """The texts of a file, and the reasons why there are none."""
    return [each.reason if isinstance(each, Skipped) else each.text for each in read(ByteRange(file))]


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("bomb.txt.gz", gzip.compress),
        ("bomb.txt.zst", zstandard.compress),
        ("bomb.jsonl.gz", gzip.compress),
        ("bomb.html.zst", zstandard.compress),
    ],
)
def test_a_compression_bomb_is_not_unpacked(
    name: str, pack: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressed, "MOST_UNPACKED_FREELY", MB)
    (tmp_path / name).write_bytes(pack(bytes(64 * MB)))
    [reason] = found(tmp_path / name)
    lost = "what follows is lost" if "jsonl" in name else "nothing of it is read"
    assert reason == f"unpacks to more than 200 times its size, as only a compression bomb does; {lost}"


def test_no_step_unpacks_much() -> None:
    for suffix, packed in ((".gz", gzip.compress(bytes(64 * MB))), (".zst", zstandard.compress(bytes(64 * MB)))):
        decoder = {".gz": compressed._new_gzip, ".zst": compressed._new_zstd}[suffix]()
        assert 0 < len(decoder.decompress(packed[: compressed._SLICE[suffix]])) <= 34 * MB


def test_texts_that_repeat_themselves_are_no_bombs(tmp_path: Path) -> None:
    line = json.dumps({"text": GOOD}, ensure_ascii=False) + "\n"
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((line * 20_000).encode()))
    assert found(tmp_path / "a.jsonl.gz") == [GOOD] * 20_000


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_long_line_is_skipped_and_the_next_is_read(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonl, "MOST_LINE", 3 * MB)
    lines = [json.dumps({"text": text}) for text in ("first", "x" * 9 * MB, "third", "y" * 2 * MB)]
    content = "\n".join(lines).encode()
    (tmp_path / f"a.jsonl{ending}").write_bytes(gzip.compress(content) if ending else content)
    texts = found(tmp_path / f"a.jsonl{ending}")
    assert texts == ["first", "has more than 3 MB; divide the document", "third", "y" * 2 * MB]


def test_a_large_file_of_one_document_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_BYTES", MB)
    (tmp_path / "a.txt").write_bytes(b"a" * (MB + 1))
    (tmp_path / "b.txt").write_bytes(b"b" * MB)
    assert found(tmp_path / "a.txt") == ["has more than 1 MB as one document, unpacked; divide it"]
    assert found(tmp_path / "b.txt") == ["b" * MB]


def test_hostile_lines_of_json_are_skipped_by_their_number(tmp_path: Path) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    lines = [
        '{"text": "a", "text": "b"}',
        f'{{"text": {deep}}}',
        '{"text": "half \\ud800"}',
        '{"x": ' + "9" * 5000 + "}",
    ]
    (tmp_path / "a.jsonl").write_text("\r\n".join([*lines, '{"text": "end"}']), encoding="utf-8")
    assert found(tmp_path / "a.jsonl") == [
        "b",
        "broken JSON: nested too deeply",
        "half ",
        "broken JSON: a number of too many digits",
        "end",
    ]


PAGES = {
    "blocks": "<div>" * 200_000 + "x",
    "inline": "<b>" * 200_000 + "x",
    "tables": "<table><tr><td>" * 50_000 + "x",
    "lists": "<ul><li>" * 50_000 + "x",
    "links around blocks": "<a><div>" * 20_000 + "x",
    "mixed case": "<DiV>" * 50_000 + "x",
    "attributes": "<p " + " ".join(f'a{number}="1"' for number in range(50_000)) + ">x</p>",
    "attributes without spaces": "<p " + "".join(f'a{number}="1"' for number in range(50_000)) + ">x</p>",
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_on_which_the_parser_would_take_hours_is_refused(name: str) -> None:
    with pytest.raises(
        InputError, match=r"^(nests its tags more than 1,000 levels|has a tag with more than 1,000 attr)"
    ):
        html_text(f"<html><body>{PAGES[name]}".encode())


def test_long_pages_are_read() -> None:
    cells = "<table>" + "<tr><td>1<td><br><img src=a>2" * 5_000 + "</table>"
    image = f'<p><img alt="x = y" src="data:image/png;base64,{"A=b c" * 9_000}">図</p>'
    assert html_text(f"<html><body>{image}{cells}".encode()).text.startswith("図\n\n1\t")


def test_what_takes_too_long_ends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_SECONDS", 0.3)
    (tmp_path / "slow.docx").write_bytes(SLOW)
    assert found(tmp_path / "slow.docx") == [f"takes more than 0.3 seconds to read; {ADVICE}"]
    monkeypatch.undo()
    (tmp_path / "good.docx").write_bytes(docx(p(r(GOOD))))
    assert found(tmp_path / "good.docx") == [GOOD]


def test_what_needs_too_much_memory_ends_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_MEMORY", 256 << 20)
    with pytest.raises(InputError, match=r"^(needs more than|ended its reader)"):
        convert(".html", b"<p>" + b"a" * (200 << 20))
    monkeypatch.undo()
    assert convert(".html", f"<p>{GOOD}".encode()).text == GOOD


def test_a_build_names_hostile_files_and_is_the_same_from_any_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.txt").write_text(GOOD, encoding="utf-8")
    (folder / "deep.html").write_text(PAGES["blocks"], encoding="utf-8")
    (folder / "good.html").write_text(f"<p>十二指腸の{GOOD}", encoding="utf-8")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    written = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        build(BuildConfig((folder,)), [], output, processes)
        written.append({file.name: file.read_bytes() for file in output.iterdir() if file.is_file()})
    assert written[0] == written[1]
    inputs = {Path(each["file"]).name: each["reason"] for each in json.loads(written[0]["corpus.json"])["inputs"]}
    assert inputs["deep.html"] == "nests its tags more than 1,000 levels deep; repair the page or leave it out"
    assert inputs["broken.pdf"].startswith("is a broken PDF")
    assert not inputs["good.html"]


def test_200_pdf_files_with_flipped_bits_crash_nothing() -> None:
    good = pdf([["壊血病は不足で起こる。"], ["予後は良い。"]])
    generator, read_, refused = random.Random(17), 0, 0
    for _ in range(200):
        raw = bytearray(good)
        for _ in range(generator.choice((1, 3, 10))):
            raw[generator.randrange(len(raw))] ^= 1 << generator.randrange(8)
        try:
            assert pdf_text(bytes(raw)).text
            read_ += 1
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
    assert read_ > 20
    assert refused > 20


def test_names_in_a_word_file_that_leave_its_folder_are_never_written(tmp_path: Path) -> None:
    outside = tmp_path / "outside.xml"
    raw = docx(p(r(GOOD)), **{f"../../../../../../../../..{outside}": "<a/>", str(outside): "<a/>"})
    assert convert(".docx", raw).text == GOOD
    assert not outside.exists()


@pytest.mark.parametrize("unit", ["\t", " ", " \t", "\n", "-", "<", "&amp;", "1\f", "[", "<sup>1", "#"])
def test_cleaning_takes_no_longer_for_a_character_that_repeats(unit: str) -> None:
    assert len(clean(f"a{unit * (100_000 // len(unit))}b").text) <= 100_002


def test_documents_have_no_characters_that_files_cannot_store(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>a&#xd800;b&#0;c", encoding="utf-8")
    [document] = read(ByteRange(tmp_path / "a.html"))
    assert isinstance(document, Document)
    document.text.encode()


def test_nothing_in_the_current_directory_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(limits, "MOST_SECONDS", 0.3)
    with pytest.raises(InputError, match=r"0\.3 seconds"):
        convert(".docx", SLOW)  # the next file gets a new process
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    Path("json.py").write_text("open('ran', 'w')", encoding="utf-8")
    assert convert(".html", f"<p>{GOOD}".encode()).text == GOOD
    assert not Path("ran").exists()
