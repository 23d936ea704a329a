"""The training benchmark: our loop and the plain one on a tiny model, in this process."""

import importlib
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, with its workers called instead of started."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    script, loops = importlib.import_module("train_speed"), importlib.import_module("train_speed_loops")

    def called(python: str, *arguments: str) -> Any:
        assert python == sys.executable
        with redirect_stdout(io.StringIO()) as said:
            loops.work(*arguments)
        return json.loads(said.getvalue().splitlines()[-1])

    monkeypatch.setattr(script, "_worker", called)
    return script


@pytest.mark.exhaustive
def test_the_tiny_model_is_measured_on_every_text_and_the_table_names_what_is_not(
    script: ModuleType, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    arguments = ["--steps", "2", "--tiny", "--data", str(shared), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["train_speed.py", *arguments])
    script.main()
    result = json.loads((tmp_path / "train_speed.json").read_text(encoding="utf-8"))
    rows = {(row["stage"], row["texts"], row["loop"]): row for row in result["rows"]}
    texts = ("short", "medium", "long")
    assert set(rows) == {(s, t, loop) for s in (1, 2) for t in texts for loop in ("ours", "bare")}
    for row in rows.values():
        assert row["seconds"] > 0 and row["peak"] > 2**20
        assert 5.5 < row["loss"] < 6.0  # an untrained model predicts 320 tokens at random: ln 320 = 5.77
    for name in texts:
        # Two steps of two rows of 512 tokens; the bare loop does not see where documents begin.
        assert rows[1, name, "bare"]["trained"] == 2 * 2 * 511
        assert rows[1, name, "ours"]["read"] == 2 * 2 * 512
        assert rows[1, name, "ours"]["trained"] < 2 * 2 * 511
        assert 0 <= rows[1, name, "ours"]["read"] - rows[1, name, "ours"]["useful"] < 512  # the last row's padding
        for loop in ("ours", "bare"):
            tuned = rows[2, name, loop]
            assert tuned["trained"] < tuned["useful"] <= tuned["read"]  # prompts are not trained
    assert "*not measured*" in capsys.readouterr().out or result["gpu"] == "measured"
