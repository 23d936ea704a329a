"""The check of what is on disk."""

from pathlib import Path

import pytest

from conftest import SHARED_SOURCES
from jmedllm.data.catalogue import SOURCES
from jmedllm.data.check import check, expected_counts
from jmedllm.data.fetch import get
from jmedllm.errors import InputError


@pytest.mark.parametrize("name", SHARED_SOURCES)
def test_real_data(shared: Path, name: str):
    rows = check(name, shared)
    assert {row.status for row in rows} == {"ok"}
    assert len(rows) >= len(SOURCES[name].files)


def test_counts_of_items(shared: Path):
    rows = [row for row in check("medqa", shared) if row.what.startswith("medqa en")]
    assert [(row.what, row.expected, row.found) for row in rows] == [
        ("medqa en test", "1273 items", "1273 items"),
        ("medqa en train", "1272 items", "1272 items"),
    ]


def test_expected_counts_of_a_source():
    assert list(expected_counts(SOURCES["mmlu"])) == [("mmlu", "en", "test", 3382), ("mmlu", "en", "dev", 65)]
    assert list(expected_counts(SOURCES["sukeda2024"])) == []
    assert {name for name, *_ in expected_counts(SOURCES["jmedbench"])} == {"medqa", "medqa-5", "medmcqa", "mmlu"}


def test_broken_files(shared: Path, tmp_path: Path):
    get("jmmlu", tmp_path, mirror=str(shared))
    anatomy, virology = tmp_path / "jmmlu/anatomy.csv", tmp_path / "jmmlu/virology.csv"
    anatomy.write_text("Q,a,b,c,d,A\n", encoding="utf-8")
    assert [(r.what, r.status) for r in check("jmmlu", tmp_path) if r.status != "ok"] == [
        ("jmmlu/anatomy.csv", "wrong"),
        ("jmmlu ja test", "wrong"),
    ]
    assert check("jmmlu", tmp_path)[-1].found == "1720 items"
    virology.unlink()
    rows = check("jmmlu", tmp_path)
    assert [r.status for r in rows if r.what == "jmmlu/virology.csv"] == ["missing"]
    assert rows[-1].found.startswith(f"{virology}: no such file; fetch it with: jmedllm data get jmmlu")


def test_without_checksum_and_count(tmp_path: Path):
    path = tmp_path / "jmedbench/medmcqa_jp/test.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"sample_id": 1, "question": "q", "options": ["a", "b"], "answer_idx": 0}\n')
    rows = {row.what: row for row in check("jmedbench", tmp_path)}
    assert rows["jmedbench/medmcqa_jp/test.jsonl"].status == "not verified"
    assert rows["medmcqa ja test"].status == "not verified"
    assert rows["medmcqa ja test"].found == "1 items"
    assert rows["medqa ja test"].status == "wrong"


def test_unknown_source(tmp_path: Path):
    with pytest.raises(InputError, match=r"unknown data source 'jmlu': did you mean jmmlu or mmlu or jmle2026\?"):
        check("jmlu", tmp_path)
