"""Comparisons of finished evaluations: who is compared with whom, and by which scorer."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from scripted import GRADED, evaluate_exam, write_exam

from jmedllm.errors import InputError
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.report.collect import collect
from jmedllm.report.compare import compare
from jmedllm.report.headline import headlines
from jmedllm.report.table import print_comparisons, print_table


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    return write_exam(tmp_path / "exam.jsonl")


def test_two_models_on_one_task(exam: Path, tmp_path: Path) -> None:
    folders = [evaluate_exam(exam, tmp_path / name, name, right) for name, right in (("a", 5), ("b", 15))]
    answer, legacy = compare(collect(folders))
    assert (answer.scorer, legacy.scorer, answer.first.name, answer.second.name) == (
        "answer",
        "legacy",
        "a ja",
        "b ja",
    )
    pair = answer.paired
    assert (pair.n, pair.only_first, pair.only_second, pair.difference) == (20, 0, 10, 0.5)
    assert pair.p == pytest.approx(2 / 2**10) and answer.p_holm == pytest.approx(2 * pair.p)
    text = io.StringIO()
    print_comparisons([answer, legacy], Console(file=text, width=120))
    assert (
        "exam ja, scorer answer\n  a → b" in text.getvalue()
        and "+50.0" in text.getvalue()
        and "0/10" in text.getvalue()
    )


def test_rotations_and_items_beyond_the_limit_are_not_counted_as_items(exam: Path, tmp_path: Path) -> None:
    folders = []
    for name, right in (("a", 5), ("b", 15)):
        folders.append(evaluate_exam(exam, tmp_path / name, name, right, rotations=2))
        evaluate_exam(exam, tmp_path / name, name, right, rotations=2, limit=10)
    answer, _ = compare(collect(folders))
    assert (answer.paired.n, answer.paired.only_second, answer.paired.first, answer.paired.second) == (
        10,
        5,
        0.5,
        1,
    )


def test_japanese_against_english_of_one_model(exam: Path, tmp_path: Path) -> None:
    found = compare(collect([evaluate_exam(exam, tmp_path / "a", "a", 7, ("ja", "en"))]))
    assert [(each.first.name, each.second.name, each.paired.difference, each.paired.p) for each in found] == [
        ("a ja", "a en", 0.0, 1.0)
    ] * 2


def test_other_questions_are_not_compared(exam: Path, tmp_path: Path) -> None:
    first = evaluate_exam(exam, tmp_path / "a", "a", 5)
    assert compare(collect([first])) == []
    exam.write_text(exam.read_text(encoding="utf-8").replace("3?", "drei?"), encoding="utf-8")
    second = evaluate_exam(exam, tmp_path / "b", "b", 5)
    with pytest.raises(InputError, match="a and b were evaluated on different versions of exam ja"):
        compare(collect([first, second]))


def test_graded_scores_are_compared_by_their_means(
    exam: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCORERS, "letters", GRADED)
    exam.write_text(exam.read_text(encoding="utf-8").replace('"x", "y"', '"abcd", "cd"'), encoding="utf-8")
    folders = [
        evaluate_exam(exam, tmp_path / name, name, right, scorers=["letters"], fingerprint="f", **adapter)
        for name, right, adapter in (("a", 5, {}), ("b", 15, {"adapter_fingerprint": "x"}))
    ]
    results = collect(folders)
    [found] = compare(results)
    pair = found.paired
    assert (pair.first, pair.second, pair.difference, pair.binary) == (0.625, 0.875, 0.25, False)
    assert pair.low == pytest.approx(0.15) and pair.p < 0.01
    assert headlines(results) == ["After tuning: +25 points [+15, +35] on exam ja, gain shown."]
    assert {item.scores["letters"]["outcome"] for item in results[0].items.values()} == {"right", "partial"}
    console = Console(file=io.StringIO(), width=80)
    print_table([each.result for each in results], console)
    printed = console.file.getvalue()
    assert printed.split()[printed.split().index("mean") + 1 :][:5] == ["a", "20", "62.5", "[55.0,", "72.5]"]
    assert "bootstrap for graded scores" in printed
