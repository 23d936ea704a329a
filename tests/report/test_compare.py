"""Comparisons of finished evaluations: who is compared with whom, and by which scorer."""

import io
from pathlib import Path

import pytest
from rich.console import Console
from scripted import evaluate_exam, write_exam

from jmedllm.errors import InputError
from jmedllm.report.collect import collect
from jmedllm.report.compare import compare
from jmedllm.report.table import print_comparisons


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


def test_rotations_and_items_beyond_the_limit_are_no_items_of_their_own(exam: Path, tmp_path: Path) -> None:
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
