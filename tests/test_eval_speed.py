"""The evaluation benchmark: our workers on a tiny model, in this process."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
ROWS = [
    {"id": "1", "prompt": "問題: 欠乏する栄養は?\n答え: ", "choices": ["ビタミンC", "鉄"]},
    {"id": "2", "prompt": "問題: 診断は?\n答え: ", "choices": ["脚気", "壊血病", "貧血"]},
]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("eval_speed")


@pytest.mark.parametrize("kind", ["texts", "labels"])
def test_our_worker_scores_the_exported_items(
    script: ModuleType, tiny_model: Path, tmp_path: Path, capsys: Any, kind: str
) -> None:
    rows = [row | {"choices": ["a", "b"]} if kind == "labels" else row for row in ROWS]
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    script.work_ours(str(tiny_model), str(file), kind, "float32")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["items"] == 2 and found["parameters"] > 0 and found["tokens"] > 20
    assert [len(values) for values in found["log_probs"]] == [len(row["choices"]) for row in rows]
    assert all(value < 0 for values in found["log_probs"] for value in values)
