"""The whole build: what comes out, the same from any number of processes and after a kill at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jmedllm.corpus.documents import open_documents
from jmedllm.corpus.pipeline import process_part, survey
from jmedllm.corpus.pipeline.build import BuildConfig, build, shards, tokenizer_file
from jmedllm.corpus.pipeline.report import terminal_summary
from jmedllm.corpus.pipeline.summary import Summary
from jmedllm.errors import InputError
from jmedllm.evaluation.question import Question
from jmedllm.files import hash_file
from pdfs import pdf

STEM = "ビタミンCの長期にわたる欠乏によって起こる疾患で、歯肉からの出血を主な症状とするものはどれか。"
QUESTIONS = [Question("112A1", "igakuqa", "ja", STEM, ("壊血病", "脚気"), frozenset({0}))]
SENTENCES = [
    f"第{number}の症例では{number * 37 % 91}日目に解熱し、{number % 7 + 2}週後に退院した。" for number in range(400)
]
BEFORE, AFTER = SENTENCES[150:180], SENTENCES[180:210]
CONTAMINATED = "\n".join([*BEFORE, STEM, *AFTER])

ROWS: list[dict[str, Any]] = [
    {"id": "a", "text": f"{SENTENCES[0]}（https://x.jp）", "source": "cases", "license": "CC BY 4.0"},
    {"id": "b", "text": SENTENCES[1], "source": "cases", "license": "CC BY 4.0"},
    {"id": "again", "text": SENTENCES[1], "source": "cases"},
    {"id": "exam", "text": CONTAMINATED, "title": "ＱＡ"},
    {"id": "empty", "text": "サイトマップ\n"},
    {"id": "en", "text": "Scurvy is caused by a lack of vitamin C."},
]


def write(folder: Path) -> Path:
    """Raw files of every kind, some of them unreadable."""
    folder.mkdir()
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    (folder / "a.jsonl").write_text("\n".join([*lines, "{torn"]) + "\n", encoding="utf-8")
    (folder / "b.txt").write_bytes("".join(SENTENCES[10:14]).encode("cp932"))
    (folder / "c.pdf").write_bytes(pdf([["壊血病は、ビタミンCの欠乏により起こる疾患で", "ある。", "1"]]))
    (folder / "scan.pdf").write_bytes(pdf([[]]))
    (folder / "d.html").write_text(f"<title>題</title><nav>ホーム</nav><p>{SENTENCES[20]}</p>", encoding="utf-8")
    (folder / "many.jsonl").write_text(
        "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in SENTENCES[30:]), encoding="utf-8"
    )
    return folder


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("corpus") / "raw")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "PART_BYTES", 2000)
    monkeypatch.setattr(survey, "_BUFFER", 500)


def build_here(raw: Path, output: Path, processes: int = 1, **more: Any) -> Summary:
    return build(BuildConfig((raw,), **more), QUESTIONS, output, processes)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_a_corpus_is_built(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    summary = build_here(raw, output)
    documents = {document.id: document for document in open_documents(shards(output))}
    assert documents["a"].text == SENTENCES[0]
    assert (documents["a"].language, documents["a"].source, documents["a"].license) == ("ja", "cases", "CC BY 4.0")
    assert documents["en"].language == "en"
    assert documents["raw/b.txt"].text == "".join(SENTENCES[10:14])
    assert documents["raw/c.pdf"].text == "壊血病は、ビタミンCの欠乏により起こる疾患である。"
    assert (documents["raw/d.html"].text, documents["raw/d.html"].title) == (SENTENCES[20], "題")
    assert documents["exam#1"].title == "QA"
    assert "\n".join(BEFORE).startswith(documents["exam#1"].text)
    assert "\n".join(AFTER).endswith(documents["exam#2"].text)
    assert not {"exam", "again", "empty", "raw/scan.pdf"} & set(documents)
    assert not any(STEM in document.text for document in documents.values())

    counted = {step: amount.documents for step, amount in summary.step_counts.by()[()].items()}
    assert counted == {"read": 379, "clean": 378, "deduplicate": 377, "decontaminate": 378}
    assert (summary.read_errors, summary.emptied, summary.duplicates) == (2, 1, {"exact": 1, "near": 0})
    assert summary.contaminated == {"igakuqa": {"items": 1, "places": 1}}
    by_licence = summary.step_counts.by("license")
    assert by_licence["CC BY 4.0",]["decontaminate"].documents == 2
    inputs = json.loads((output / "corpus.json").read_text(encoding="utf-8"))["inputs"]
    assert {Path(each["file"]).name: each["status"] for each in inputs} == {
        "a.jsonl": "partly read", "b.txt": "read", "c.pdf": "read", "d.html": "read", "many.jsonl": "read",
        "scan.pdf": "not read",
    }  # fmt: skip
    first, characters = inputs[0], sum(len(row["text"]) for row in ROWS)
    counted = {name: first[name] for name in ("documents", "characters", "kept", "errors", "reason")}
    reason = "broken JSON: Expecting property name enclosed in double quotes"
    assert counted == {"documents": 6, "characters": characters, "kept": 5, "errors": 1, "reason": reason}
    assert first["sha256"] == hash_file(raw / "a.jsonl")
    assert sum(each["kept"] for each in inputs) == 378
    for name in (*summary.files, "removed.jsonl", "corpus.md", "corpus.json"):
        assert (output / name).stat().st_mode & 0o777 == 0o600  # they contain text
    assert list(summary.files) == [path.name for path in sorted(output.glob("documents-*.jsonl"))]


def test_every_removal_is_reported(raw: Path, tmp_path: Path) -> None:
    build_here(raw, tmp_path / "out")
    removed = [
        json.loads(line) for line in (tmp_path / "out" / "removed.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    for row in removed:
        row["where"] = row["where"].removeprefix(f"{raw}/")
    assert {"step": "clean", "reason": "address", "where": "a.jsonl:1", "text": "（https://x.jp）"} in removed
    assert {"step": "clean", "reason": "no text is left", "where": "a.jsonl:5"} in removed
    scan = "is a scan: none of its 1 pages has a text layer; run OCR on it first"
    assert {"step": "read", "reason": scan, "where": "scan.pdf"} in removed
    [repeated] = [row for row in removed if row["step"] == "deduplicate"]
    expected = {"where": "a.jsonl:3", "duplicate_of": f"{raw}/a.jsonl:2", "similarity": 1.0}
    assert {name: repeated[name] for name in expected} == expected
    [row] = [row for row in removed if row["step"] == "decontaminate"]
    [question] = row["questions"]
    assert (question["benchmark"], question["question"]) == ("igakuqa", "112A1") and question["text"] in STEM
    pieces = [each.text for each in open_documents(shards(tmp_path / "out")) if each.id.startswith("exam#")]
    assert row["text"].strip().join(pieces) == CONTAMINATED  # all that is missing is there to be read
    page = (tmp_path / "out" / "corpus.md").read_text(encoding="utf-8")
    assert f"| {raw}/scan.pdf | not read | 0 | 0 | 0 | {scan} |" in page and "- igakuqa: items 1, places 1" in page
    assert "Personal data: nothing has removed it from this text" in page
    assert "| cases | 3 → 3 → 2 → 2 |" in page and "| address | 1 |" in page
    assert f"- {raw}/a.jsonl:3 repeats {raw}/a.jsonl:2\n" in page
    assert f"- {raw}/a.jsonl:4 contains igakuqa 112A1: `{question['text'][:20]}" in page


def test_files_that_are_not_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.txt").write_text(SENTENCES[0], encoding="utf-8")
    (raw / "locked.txt").write_text("x", encoding="utf-8")
    for name in ("b.csv", "c.csv", "d.doc"):
        (raw / name).write_text("x", encoding="utf-8")
    (raw / "same.txt").write_text(SENTENCES[0], encoding="utf-8")
    (raw / ".git" / "objects").mkdir(parents=True)
    for name in ("HEAD", "notes.txt", "objects/1", "objects/2"):
        (raw / ".git" / name).write_text("x", encoding="utf-8")
    opened = Path.open

    def refuse(path: Path, *more: Any, **named: Any) -> Any:
        if path.name == "locked.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *more, **named)

    monkeypatch.setattr(Path, "open", refuse)
    summary = build_here(raw, tmp_path / "out")
    monkeypatch.undo()
    table = ".csv: is a table; export the column of its text to .jsonl"
    reasons = summary.reasons()
    assert reasons[table] == 2 and sum(reasons.values()) == summary.file_counts()["not read"] == 9
    assert reasons[".txt: has the same content as another file"] == 1 and reasons["is a hidden folder"] == 4
    lines = terminal_summary(summary).splitlines()
    assert lines[4].split(maxsplit=1) == ["files", "1 read, 9 not read"]
    assert lines[5].split() == ["4", "×", "is", "a", "hidden", "folder"] and lines[6].strip() == f"2 × {table}"
    page = (tmp_path / "out" / "corpus.md").read_text(encoding="utf-8")
    removed = (tmp_path / "out" / "removed.jsonl").read_text(encoding="utf-8")
    for name in ("b.csv", "c.csv", "d.doc", "locked.txt"):
        assert f"| {raw}/{name} | not read |" in page and f"{raw}/{name}" in removed
    assert f"| {raw}/same.txt | not read | 0 | 0 | 0 | has the same content as another file: {raw}/a.txt |" in page
    (raw / "e.csv").touch()
    assert build_here(raw, tmp_path / "out").file_counts()["not read"] == 9  # one more, and the locked one is read


def test_any_number_of_processes_makes_the_same_corpus(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # other processes do not know of small parts; all must divide alike
    build_here(raw, tmp_path / "one")
    build_here(raw, tmp_path / "one again")
    build_here(raw, tmp_path / "three", processes=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "one again") == contents(tmp_path / "three")


class Killed(BaseException):
    pass


def test_a_killed_build_resumes(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at each of the files that it writes; what is done is not done again, and the end is the same."""
    build_here(raw, tmp_path / "whole")
    build(BuildConfig((raw,)), [], tmp_path / "out", 1)  # an earlier corpus is no obstacle
    output, replaced, kills, read = tmp_path / "out", 0, 0, list[str]()
    replace, reading = Path.replace, process_part.read

    def count_and_die(path: Path, target: Any) -> Any:
        nonlocal replaced
        replaced += 1
        if replaced == kills + 1:
            raise Killed
        return replace(path, target)

    def note(byte_range: Any, field: str) -> Any:
        read.append(f"{byte_range.path}:{byte_range.start}")
        return reading(byte_range, field)

    monkeypatch.setattr(Path, "replace", count_and_die)
    monkeypatch.setattr(process_part, "read", note)
    while kills < 1000:
        replaced = 0
        try:
            build_here(raw, output)
        except Killed:
            kills += 1
        else:
            break
    assert 20 < kills < 1000
    assert contents(output) == contents(tmp_path / "whole")
    assert len(read) < 3 * len(set(read))


def test_nothing_is_done_twice_and_everything_when_it_changes(raw: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = build_here(raw, output)
    times = {path: path.stat().st_mtime_ns for path in output.iterdir()}
    assert build_here(raw, output) == first
    assert {path: path.stat().st_mtime_ns for path in output.iterdir()} == times
    second = build(BuildConfig((raw,)), [], output, 1)
    assert second.contaminated == {} and second.input_hash != first.input_hash
    (output / next(iter(second.files))).unlink()
    assert build(BuildConfig((raw,)), [], output, 1) == second and len(shards(output)) == len(second.files)


def test_a_corpus_is_an_input_too(raw: Path, tmp_path: Path) -> None:
    first = build_here(raw, tmp_path / "first")
    again = build_here(tmp_path / "first", tmp_path / "again")
    texts = [[(each.id, each.text) for each in open_documents(shards(tmp_path / name))] for name in ("first", "again")]
    assert texts[0] == texts[1]
    assert [each["status"] for each in again.inputs].count("read") == len(first.files)


def test_of_a_corpus_below_a_folder_only_its_documents_are_read(raw: Path, tmp_path: Path) -> None:
    first = build_here(raw, tmp_path / "below" / "first")
    (tmp_path / "below" / "more.txt").write_text(SENTENCES[0], encoding="utf-8")
    again = build_here(tmp_path / "below", tmp_path / "again")
    read = [Path(each["file"]).name for each in again.inputs if each["status"] == "read"]
    assert read == [*first.files, "more.txt"]


def test_a_build_that_fails_leaves_the_corpus_that_was_there(raw: Path, tmp_path: Path) -> None:
    build_here(raw, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "scan.pdf").write_bytes(pdf([[]]))
    with pytest.raises(InputError, match=r"no text was found"):
        build_here(tmp_path / "scan", tmp_path / "out")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(("given", "output"), [("out", "out"), (".", "out"), ("out/below", "out")])
def test_inputs_and_output_must_not_overlap(
    raw: Path, tmp_path: Path, given: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    build_here(raw, Path("out"))
    (tmp_path / "out" / "below").mkdir()
    before = contents(tmp_path / "out" / "below")
    with pytest.raises(InputError) as error:
        build_here(Path(given), Path(output))
    assert str(error.value) == (f"--output {output} and the input {given} overlap; choose another --output")
    assert contents(tmp_path / "out" / "below") == before


def test_tokens_are_counted(raw: Path, tmp_path: Path, tiny_model: Path) -> None:
    summary = build_here(raw, tmp_path / "out", tokenizer=tokenizer_file(tiny_model))
    amounts = summary.step_counts.by()[()]
    assert amounts["read"].tokens > amounts["clean"].tokens > amounts["deduplicate"].tokens > 1000
    assert "| language | documents | characters | tokens |" in (tmp_path / "out" / "corpus.md").read_text(
        encoding="utf-8"
    )
    with pytest.raises(InputError, match=r"it has no tokenizer.json; give the directory of a model"):
        tokenizer_file(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer .*tokenizer.json: .*; give the directory of a model"):
        tokenizer_file(tmp_path)


def occupied(path: Path) -> Path:
    (path / "mine.txt").write_text("years of work")
    return path


def a_file(path: Path) -> Path:
    (path / "file").write_text("x")
    return path / "file" / "out"


def read_only(path: Path) -> Path:
    return Path("/proc/jmedllm")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (occupied, "HERE has files that are not a corpus; choose another --output"),
        (a_file, "cannot write HERE/file/out: Not a directory; free space or choose another place"),
        (read_only, "cannot write /proc/jmedllm: No such file or directory; free space or choose another place"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_unusable_output_is_named(raw: Path, tmp_path: Path, output: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(InputError) as error:
        build_here(raw, output(tmp_path))
    assert str(error.value).replace(str(tmp_path), "HERE") == message


def test_no_text_is_reported_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "scan.pdf").write_bytes(pdf([[]]))
    (tmp_path / "raw" / "blank.txt").write_text(" \n")
    with pytest.raises(InputError) as error:
        build_here(tmp_path / "raw", tmp_path / "out")
    assert str(error.value) == (
        f"corpus {tmp_path}/raw: no text was found; give files that have some; {tmp_path}/raw/scan.pdf is a scan: "
        "none of its 1 pages has a text layer; run OCR on it first"
    )


def test_a_dead_process_is_reported(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmedllm.corpus.pipeline.build.prepare", _die)
    with pytest.raises(
        InputError, match=r"^a process of the corpus build died, most likely for lack of memory; lower --pro"
    ):
        build_here(raw, tmp_path / "out", processes=2)


def _die(*_: object, **__: object) -> None:
    os._exit(9)


@pytest.mark.exhaustive
@pytest.mark.slow
def test_kill_9_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real command, killed with its workers at work: the next one resumes, and no process stays behind."""
    monkeypatch.undo()
    raw, output = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    for number in range(3):  # parts of 4 MiB that are soon read
        rows = ({"text": f"{number} {each} {SENTENCES[each % 400]}", "pad": "x" * 3000} for each in range(1500))
        (raw / f"{number}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [sys.executable, "-m", "jmedllm", "corpus", "build", str(raw), "--output", str(output)]
    command += ["--processes", "2", "--data", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not list(output.glob("parts/*.cleaned.json")):
        assert process.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in output.glob("parts/*.cleaned.jsonl")}
    assert not (output / "corpus.json").exists() and before
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "4,500 documents" in result.stdout
    build(BuildConfig((raw,)), [], tmp_path / "whole", 1)
    assert contents(output) == contents(tmp_path / "whole")
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
