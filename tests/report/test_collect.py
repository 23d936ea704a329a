"""Finished evaluations found again on disk: equal ones become one, different ones of one name get distinct names."""

from pathlib import Path

import pytest
from scripted import evaluate_exam, write_exam

from jmedllm.manifest import FORMAT, write_manifest
from jmedllm.report import collect, headlines


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    return write_exam(tmp_path / "exam.jsonl")


def test_the_same_model_under_two_names_is_one(exam: Path, tmp_path: Path) -> None:
    folders = [evaluate_exam(exam, tmp_path / name, name, 5, fingerprint="same") for name in ("a", "b")]
    [found] = collect(folders)
    assert (found.result.model, found.aliases, found.unchanged) == ("a", ("b",), ())
    assert found.result.notes[-1] == "b: the same model as a (same fingerprint and settings), shown once."


def test_results_of_one_model_that_differ_say_so(exam: Path, tmp_path: Path) -> None:
    """A GPU may give another answer the second time."""
    for name, right in (("a", 5), ("b", 7)):
        evaluate_exam(exam, tmp_path / name, name, right, fingerprint="same")
    [found] = collect([tmp_path / "a", tmp_path / "b"])
    assert found.result.notes[-1].endswith("2 items on exam ja were scored differently.")


def test_the_longest_of_equal_evaluations_is_shown(exam: Path, tmp_path: Path) -> None:
    short = evaluate_exam(exam, tmp_path / "short", "a", 5, fingerprint="same", limit=3)
    long = evaluate_exam(exam, tmp_path / "long", "a", 5, fingerprint="same")
    [found] = collect([short, long])
    assert (found.result.model, len(found.items), found.aliases) == ("a", 20, ())
    assert "a on exam ja was evaluated twice" in found.result.notes[-1]


def test_one_model_with_more_scorers_is_the_same_model(exam: Path, tmp_path: Path) -> None:
    for name, scorers in (("a", ["legacy"]), ("b", ["legacy", "answer"])):
        evaluate_exam(exam, tmp_path / name, name, 5, fingerprint="same", scorers=scorers)
    [found] = collect([tmp_path])
    assert {*found.result.settings["scorers"]} == {"legacy", "answer"} and len(found.aliases) == 1


def test_other_settings_are_other_results(exam: Path, tmp_path: Path) -> None:
    for name, rotations in (("a", 1), ("b", 2)):
        evaluate_exam(exam, tmp_path / name, "m", 5, fingerprint="same", rotations=rotations)
    assert [each.result.model for each in collect([tmp_path])] == ["m (a)", "m (b)"]


def test_served_models_of_one_name_stay_apart(exam: Path, tmp_path: Path) -> None:
    """What a server calls a model does not identify it."""
    for name in ("a", "b"):
        evaluate_exam(exam, tmp_path / name, name, 5, fingerprint="served model")
    assert [each.result.model for each in collect([tmp_path])] == ["a", "b"]


def test_the_base_is_that_of_the_run_or_below_the_adapter(exam: Path, tmp_path: Path) -> None:
    run, files = tmp_path / "run", []
    for name, right in (("base", 5), ("mfpt", 5), ("mpeft", 15)):
        fingerprint = "one" if name != "mpeft" else "two"
        evaluate_exam(exam, run / "eval" / name, name, right, fingerprint=fingerprint)
        files.append(f"eval/{name}/exam.ja.json")
    stages = {"eval": {"outputs": {"files": files}}}
    write_manifest(run, {"format": FORMAT, "models": ["base", "mfpt", "mpeft"], "stages": stages})
    base, tuned = collect([run])
    assert (base.unchanged, tuned.base) == (("mfpt",), "base")
    assert headlines([base, tuned]) == [
        "After tuning: +50 points [+21, +70] on exam ja, gain shown.",
        "mfpt is the same model as base: training changed nothing.",
    ]
    plain = evaluate_exam(exam, tmp_path / "plain", "llm", 5, fingerprint="one")
    adapted = evaluate_exam(exam, tmp_path / "adapted", "llm-lora", 15, fingerprint="one", adapter_fingerprint="x")
    assert [(each.result.model, each.base) for each in collect([plain, adapted])] == [
        ("llm", None),
        ("llm-lora", "llm"),
    ]
