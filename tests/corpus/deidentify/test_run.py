"""The whole command: the same bytes for any number of processes, resumable, private, no text in the report."""

import datetime as dt
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sudachipy")
pytest.importorskip("pycrfsuite")

from jmedllm.corpus.deidentify import run
from jmedllm.corpus.deidentify.config import DeidentifyConfig
from jmedllm.corpus.deidentify.report import REPORT
from jmedllm.corpus.deidentify.run import deidentify
from jmedllm.corpus.pipeline import survey
from jmedllm.corpus.pipeline.build import BuildConfig, build
from jmedllm.errors import InputError

NOTE = "患者ID：12345678　氏名：佐藤 花子　様\n2019年5月1日に豊橋市立病院の鈴木先生へ紹介。高血圧症、川崎病の既往。"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    rows = [{"id": f"n{number}", "text": f"{NOTE}\n記録 {number}"} for number in range(8)]
    (folder / "a.jsonl").write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8"
    )
    (folder / "b.txt").write_text(NOTE, encoding="utf-8")
    return folder


def texts(output: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(output.glob("documents-*.jsonl")))


def test_the_output_is_private_and_its_report_has_no_text(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("ab" * 32)  # a random one may draw one identifier as the surrogate of another
    report = deidentify([notes], "text", DeidentifyConfig(key_file=str(tmp_path / "key")), tmp_path / "out", 1)
    assert (report.documents, report.by_label()["NAME"], report.by_label()["PATIENT_ID"]) == (9, 18, 9)
    written = texts(tmp_path / "out").decode()
    assert not any(word in written for word in ("佐藤", "花子", "鈴木", "12345678", "2019年5月1日", "豊橋"))
    assert "高血圧症、川崎病の既往。" in written
    for path in (tmp_path / "out").glob("d*"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    reported = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").glob("deidentification.*"))
    assert not any(word in reported for word in ("佐藤", "花子", "12345678"))


def test_a_kept_key_gives_the_same_bytes_and_a_dropped_one_others(notes: Path, tmp_path: Path) -> None:
    kept = DeidentifyConfig(key_file=str(tmp_path / "key"))
    for name in ("one", "two"):
        deidentify([notes], "text", kept, tmp_path / name, 1)
    deidentify([notes], "text", DeidentifyConfig(), tmp_path / "three", 1)
    assert texts(tmp_path / "one") == texts(tmp_path / "two") != texts(tmp_path / "three")
    assert not list((tmp_path / "three").rglob("key"))


def test_a_killed_run_resumes_with_its_key(notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DeidentifyConfig()
    with monkeypatch.context() as patch:
        patch.setattr(run, "_publish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            deidentify([notes], "text", config, tmp_path / "out", 1)
    (part,) = (tmp_path / "out").glob("parts/*/00000.jsonl")
    before = part.read_bytes()
    deidentify([notes], "text", config, tmp_path / "out", 1)
    assert texts(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "problem"),
    [({"key_file": "out/key"}, "keep the key away"), ({"inputs": ("out",)}, "no such|overlap")],
)
def test_a_wrong_setting_is_refused_at_once(
    notes: Path, tmp_path: Path, change: dict, problem: str, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = [Path(name) for name in change.pop("inputs", (notes,))]
    with pytest.raises(InputError, match=problem):
        deidentify(inputs, "text", DeidentifyConfig(**change), Path("out"), 1)
    assert not Path("out").exists()


def test_a_corpus_of_de_identified_text_says_so(notes: Path, tmp_path: Path) -> None:
    deidentify([notes], "text", DeidentifyConfig(), tmp_path / "out", 1)
    made = build(BuildConfig((tmp_path / "out",)), [], tmp_path / "corpus", 1)
    assert made.personal_data_removed
    assert [each["file"] for each in made.inputs if not each["reason"]] == [
        str(tmp_path / "out/documents-00000.jsonl")
    ]
    assert not build(BuildConfig((tmp_path / "out", notes)), [], tmp_path / "mixed", 1).personal_data_removed


@pytest.mark.slow
def test_any_number_of_processes_writes_the_same_bytes(notes: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(survey, "PART_BYTES", 600)  # several parts
    config = DeidentifyConfig(key_file=str(tmp_path / "key"), review=True)
    for name, processes in (("one", 1), ("two", 2)):
        deidentify([notes], "text", config, tmp_path / name, processes)
    assert len(list((tmp_path / "one").glob("documents-*"))) > 1
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_changed_input_is_noticed_and_a_finished_run_leaves_no_key(notes: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = deidentify([notes], "text", DeidentifyConfig(), output, 1)
    assert deidentify([notes], "text", DeidentifyConfig(), output, 1) == first
    (output / "parts" / first.input_hash).mkdir(parents=True)
    (output / "parts" / first.input_hash / "key").write_text("as a run that was killed after its report leaves it")
    assert deidentify([notes], "text", DeidentifyConfig(), output, 1) == first and not (output / "parts").exists()
    (notes / "b.txt").write_text("鈴木さんが来院した。", encoding="utf-8")
    assert deidentify([notes], "text", DeidentifyConfig(), output, 1).inputs != first.inputs


def test_another_key_starts_again(notes: Path, tmp_path: Path) -> None:
    config = DeidentifyConfig(key_file=str(tmp_path / "key"))
    deidentify([notes], "text", config, tmp_path / "out", 1)
    before = texts(tmp_path / "out")
    (tmp_path / "key").unlink()
    deidentify([notes], "text", config, tmp_path / "out", 1)
    assert texts(tmp_path / "out") != before


def test_patients_of_a_field_keep_their_surrogates_and_intervals(tmp_path: Path) -> None:
    rows = [
        {"patient": 7, "text": "佐藤花子さん、2020年1月6日に入院。"},
        {"patient": "８", "text": "佐藤花子さん、2020年1月6日に入院。"},
        {"patient": "7", "text": "2020年1月8日、佐藤花子さんは退院。"},
        {"text": "佐藤花子さん、2020年1月6日に入院。"},
    ]
    file = tmp_path / "notes.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = DeidentifyConfig(patient_field="patient", key_file=str(tmp_path / "key"))
    (tmp_path / "key").write_text("ab" * 32)
    report = deidentify([file], "text", config, tmp_path / "out", 1)
    assert report.patients == {"field": 3, "none: each document apart": 1}
    new = [json.loads(line)["text"] for line in texts(tmp_path / "out").splitlines()]
    names = [re.sub(r"[\d年月日、]|さん.*", "", text) for text in new]
    assert names[0] == names[2] and len(set(names)) == 3
    days = [dt.date(*map(int, re.findall(r"\d+", text)[:3])) for text in new]
    assert (days[2] - days[0]).days == 2 and days[0].weekday() == 0


def test_no_identifier_is_in_reports_or_names_of_files_but_in_the_review_list(tmp_path: Path, capfd: Any) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(4):
        name = f"山田太郎_1234567{number}.txt"
        (folder / name).write_text("胃癌。東京都の山田太郎さん、65歳男性。Y.T.、45歳も同席。", encoding="utf-8")
        with (folder / name).open("a", encoding="utf-8") as file:
            file.write(str(number))  # files of the same content are read once
    (folder / "山田太郎.png").write_bytes(b"x")
    config = DeidentifyConfig(replacement="mask", review=True)
    report = deidentify([folder], "text", config, tmp_path / "out", 1)
    assert report.rare_facts == {"k": 5, "documents": 4, "combinations": 1, "rare": 4}
    review = (tmp_path / "out/review.jsonl").read_text(encoding="utf-8")
    assert '"label": "RARE_FACTS", "documents": 4, "age": "65", "sex": "m", "disease": "胃癌"' in review
    assert '"Y.T."' in review and (tmp_path / "out/review.jsonl").stat().st_mode & 0o777 == 0o600
    others = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").glob("d*"))
    for identifier in ("山田", "太郎", "1234567"):
        assert identifier not in others + "".join(capfd.readouterr()).replace(str(tmp_path), "")
    assert any(name.endswith("(2)") for name in report.inputs)


@pytest.mark.slow
def test_a_run_that_is_killed_hard_resumes_to_the_same_bytes(notes: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    command = [sys.executable, "-m", "jmedllm", "corpus", "deidentify", str(notes), "--key-file", str(key)]
    script = (
        "import os, signal, sys\n"
        "from jmedllm.corpus.deidentify import run\n"
        "run._report = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from jmedllm.cli import main\n"
        "main()\n"
    )
    arguments = [*command[3:], "--output", str(tmp_path / "out"), "--processes", "1"]
    killed = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True)
    assert killed.returncode == -signal.SIGKILL and not (tmp_path / "out/deidentification.json").exists()
    for name in ("out", "other"):
        subprocess.run([*command, "--output", str(tmp_path / name), "--processes", "1"], check=True)
    assert texts(tmp_path / "out") == texts(tmp_path / "other") and not (tmp_path / "out/parts").exists()


def test_names_of_files_stay_in_their_cells(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a|b <i>.txt").write_text("壊血病はビタミンCの欠乏で起こる。", encoding="utf-8")
    (folder / "c|<b>.docx").write_bytes(b"no archive")
    report = deidentify([folder], "text", DeidentifyConfig(), tmp_path / "out", 1)
    written = (tmp_path / "out" / REPORT).read_text(encoding="utf-8")
    [row] = [line for line in written.splitlines() if line.startswith("| ") and "a\\|b &lt;i>" in line]
    assert row.count(" | ") == 2 and "<b>" not in written and len(report.skipped) == 1
