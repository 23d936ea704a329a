"""Scorer reference: free answers compared with a reference answer."""

import json
from pathlib import Path

import pytest

from conftest import Cli
from jmedllm.evaluation.order import present
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import SCORERS, ModelOutput
from jmedllm.evaluation.scorers.reference import chrf


@pytest.mark.parametrize(
    ("response", "reference", "low", "high"),
    [
        pytest.param("ビタミンCの欠乏", "ビタミンCの欠乏", 1.0, 1.0, id="the same"),
        pytest.param("ビタミンＣ の欠乏", "ビタミンCの欠乏", 1.0, 1.0, id="width and spaces do not count"),
        pytest.param("Scurvy", "scurvy", 1.0, 1.0, id="nor does case"),
        pytest.param("ビタミンCが足りない", "ビタミンCの欠乏", 0.3, 0.7, id="half of it"),
        pytest.param("胃癌", "ビタミンCの欠乏", 0.0, 0.0, id="nothing of it"),
        pytest.param("", "ビタミンCの欠乏", 0.0, 0.0, id="empty"),
    ],
)
def test_chrf(response: str, reference: str, low: float, high: float) -> None:
    assert low <= chrf(response, reference) <= high


def test_chrf_by_hand() -> None:
    # 1-grams: 2 of 2 and 2 of 3; 2-grams: 1 of 1 and 1 of 2. Precision 1, recall (2/3 + 1/2) / 2 = 7/12, beta 2.
    assert chrf("ab", "abc") == pytest.approx(5 * (7 / 12) / (4 + 7 / 12))


@pytest.mark.parametrize(
    ("text", "how", "right"),
    [
        ("<think>壊血病か</think>ビタミンCの欠乏", "compared", True),
        ("<think>ビタミンCの欠乏", "empty", False),
        ("", "empty", False),
    ],
)
def test_thoughts_do_not_count(text: str, how: str, right: bool) -> None:
    question = Question("q", "exam", "ja", "原因は", (), frozenset(), reference="ビタミンCの欠乏")
    found = SCORERS["reference"].score_item(ModelOutput(present(question)[0], text))
    assert (found.how, found.value == 1) == (how, right)


def test_questions_in_free_text_from_the_command_line(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"id": f"q{i}", "question": f"壊血病の原因{i}は", "reference": "ビタミンCの欠乏"} for i in range(4)]
    exam = tmp_path / "free.jsonl"
    exam.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    common = ("--benchmark", exam, "--scorer", "reference", "--max-new-tokens", 8, "--device", "cpu", "--json")
    code, output, errors = cli("eval", "--model", tiny_model, *common, "--output", tmp_path / "out")
    assert code == 0, errors
    [score] = json.loads(output)["scores"]
    assert (score["scorer"], score["metric"], score["n"], score["binary"]) == ("reference", "mean", 4, False)
    assert 0 <= score["low"] <= score["value"] <= score["high"] <= 1
