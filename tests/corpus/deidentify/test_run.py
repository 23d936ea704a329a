"""The whole command: the same bytes for any number of processes, resumable, private, no text in the report."""

import json
from pathlib import Path

import pytest

pytest.importorskip("sudachipy")
pytest.importorskip("pycrfsuite")

from jmedllm.corpus.deidentify import run
from jmedllm.corpus.deidentify.config import DeidentifyConfig
from jmedllm.corpus.deidentify.run import deidentify
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
    report = deidentify([notes], "text", DeidentifyConfig(), tmp_path / "out", 1)
    assert (report.documents, report.by_label()["NAME"], report.by_label()["PATIENT_ID"]) == (9, 18, 9)
    written = texts(tmp_path / "out").decode()
    assert not any(word in written for word in ("佐藤", "花子", "鈴木", "12345678", "2019年5月1日", "豊橋"))
    assert "高血圧症、川崎病の既往。" in written
    for path in (tmp_path / "out").glob("d*"):
        assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    reported = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "out").glob("deidentification.*"))
    assert not any(word in reported for word in ("佐藤", "花子", "12345678"))
    assert not list((tmp_path / "out").rglob("key"))


def test_a_kept_key_gives_the_same_bytes_and_a_dropped_one_others(notes: Path, tmp_path: Path) -> None:
    kept = DeidentifyConfig(key_file=str(tmp_path / "key"))
    for name in ("one", "two"):
        deidentify([notes], "text", kept, tmp_path / name, 1)
    deidentify([notes], "text", DeidentifyConfig(), tmp_path / "three", 1)
    assert texts(tmp_path / "one") == texts(tmp_path / "two") != texts(tmp_path / "three")


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
