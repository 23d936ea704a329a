"""Evaluating from Python gives what the command line gives."""

from pathlib import Path

import pytest

from conftest import write_questions
from jmedllm.api import evaluate, load, open_model, score
from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate import EvalConfig, evaluate_model, tasks
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.models.backends.base import ModelSpec
from jmedllm.precision import choose_precision


def test_it_reads_like_the_command_line(tiny_model: Path, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    model = open_model(tiny_model, precision="float32", device="cpu", name="tiny")
    result = evaluate(model, load(str(exam), "ja", selection="all"), output=tmp_path / "api", max_new_tokens=8)
    settings = EvalConfig(benchmarks=[str(exam)], languages=["ja"], selection="all", max_new_tokens=8)
    spec = ModelSpec(str(tiny_model), "tiny", precision=choose_precision("float32", "cpu"))
    [expected] = evaluate_model(spec, tasks(settings, PromptConfig(), Path("unused")), tmp_path / "cli")
    assert result.scores == expected.scores and result.calibration == expected.calibration
    with pytest.raises(InputError, match="unknown scorer 'answr'"):
        evaluate(model, load(str(exam), "ja", selection="all"), output=tmp_path / "x", scorers=["answr"])
    with pytest.raises(InputError, match="--rotations 0"):
        evaluate(model, load(str(exam), "ja", selection="all"), output=tmp_path / "x", rotations=0)


def test_stored_evaluations_are_scored_again_without_the_model(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = write_questions(tmp_path / "exam.jsonl", count=3)
    model = open_model(tiny_model, precision="float32", device="cpu", name="tiny")
    questions = load(str(exam), "ja", selection="all")
    before = evaluate(model, questions, output=tmp_path / "out", scorers=["answer"], max_new_tokens=4)
    monkeypatch.setattr("jmedllm.models.backends.transformers.model.load_model", None)
    [after] = score(tmp_path / "out", scorers=["legacy"], questions=[exam])
    assert after.scores[0] == before.scores[0]
    assert [each.scorer for each in after.scores] == ["answer", "legacy", "legacy"]
    with pytest.raises(InputError, match="evaluate again with the scorers answer, legacy, likelihood"):
        score(tmp_path / "out", scorers=["likelihood"], questions=[exam])


def test_questions_that_are_not_one_task_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    exam = str(write_questions(tmp_path / "exam.jsonl"))
    model = open_model(tiny_model, precision="float32", device="cpu")
    japanese, english = (load(exam, language, selection="all") for language in ("ja", "en"))
    for questions, more, problem in (
        ([], {}, "one benchmark and language, not none"),
        ([*japanese, *english], {}, "not exam en and exam ja"),
        ([*japanese, *japanese], {}, "a question is given twice"),
        (japanese, {"scorers": ["official"]}, "official cannot score any of these questions"),
        (japanese, {"limit": 2}, "evaluate has no setting limit"),
    ):
        with pytest.raises(InputError, match=problem):
            evaluate(model, questions, output=tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()
