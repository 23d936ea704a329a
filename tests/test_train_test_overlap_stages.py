"""A recipe that trains on its benchmark is refused, before stage 1 and again before stage 2."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from conftest import write_questions
from jmedllm.errors import InputError
from jmedllm.precision import choose_precision
from jmedllm.recipe_file import load_recipe
from jmedllm.stages.corpus import CORPUS
from jmedllm.stages.mpeft import MPEFT, MpeftOutputs
from jmedllm.stages.questions import require_no_train_test_overlap
from jmedllm.stages.stage import Run, Stage


def tiny(folder: Path, tiny_model: Path, train: Path, exam: Path | None) -> Run:
    recipe = {
        "name": "tiny",
        "data": str(folder / "no-data"),
        "base": {"path": str(tiny_model)},
        "corpus": {"inputs": ["demo"], "block_size": 64},
        "mpeft": {
            "questions": [{"benchmark": str(train), "languages": ["ja"]}],
            "steps": 1,
            "learning_rate": 1e-3,
            "batch_size": 1,
        },
    }
    if exam:
        recipe |= {"eval": {"benchmarks": [str(exam)], "languages": ["ja"], "models": ["base"]}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return Run(load_recipe(folder / "tiny.yaml"), folder / "run", choose_precision("float32", "cpu"), {})


@pytest.mark.parametrize("step", [CORPUS, MPEFT], ids=["corpus", "mpeft"])
def test_training_on_the_exam_is_refused(tmp_path: Path, tiny_model: Path, step) -> None:
    exam = write_questions(tmp_path / "exam.jsonl", count=1)
    row = json.loads(exam.read_text(encoding="utf-8").splitlines()[0])
    row |= {"id": "copied", "question": row["question"].replace("。", "？"), "choices": row["choices"][::-1]}
    row["answer"] = ["d"]
    train = tmp_path / "train.jsonl"
    train.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="test questions among the training questions: 1: train copied is exam q0"):
        step.perform(tiny(tmp_path, tiny_model, train, exam), "input_hash")
    assert not (tmp_path / "run" / "mpeft" / "adapter").exists()


@pytest.mark.parametrize("form", ["instruction", "messages"])
def test_an_exam_item_among_the_instructions_is_refused(tmp_path: Path, tiny_model: Path, form: str) -> None:
    exam = write_questions(tmp_path / "exam.jsonl", count=1)
    question = json.loads(exam.read_text(encoding="utf-8").splitlines()[0])["question"]
    rows = {
        "instruction": {"instruction": "次の問いに答えてください。", "input": question, "output": "壊血病"},
        "messages": {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": "壊血病"}]},
    }
    file = tmp_path / "instructions.jsonl"
    file.write_text(json.dumps(rows[form], ensure_ascii=False) + "\n", encoding="utf-8")
    train = write_questions(tmp_path / "train.jsonl", count=0)
    run = tiny(tmp_path, tiny_model, train, exam)
    recipe = run.recipe.model_copy(
        update={"mpeft": run.recipe.mpeft.model_copy(update={"questions": [], "instructions": [str(file)]})}
    )
    with pytest.raises(InputError) as error:
        CORPUS.perform(replace(run, recipe=recipe), "input_hash")
    assert str(error.value) == (
        f"mpeft.instructions: 1 contain benchmark items: {file}:1 contains exam q0; remove them"
    )


def test_questions_of_no_benchmark_may_be_trained_on(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_questions(tmp_path / "train.jsonl", count=1)
    exam = write_questions(tmp_path / "exam.jsonl", count=3)
    exam.write_text(exam.read_text(encoding="utf-8").replace("ビタミンC", "葉酸の長期にわたる"), encoding="utf-8")
    run = tiny(tmp_path, tiny_model, train, exam)
    assert require_no_train_test_overlap(run) == {"exam": 6}
    assert "test questions in the training data" in CORPUS.check(run)
    assert "not compared" not in capsys.readouterr().err


@pytest.mark.parametrize("step", [CORPUS, MPEFT], ids=["corpus", "mpeft"])
def test_without_a_benchmark_nothing_is_certified(
    tmp_path: Path, tiny_model: Path, step: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tiny(tmp_path, tiny_model, write_questions(tmp_path / "train.jsonl", count=1), None)
    step.perform(run, "input_hash")
    reason = f"training data were not compared with any benchmark: {tmp_path / 'no-data'}/ has none"
    assert reason in capsys.readouterr().err
    assert "test questions in the training data" not in CORPUS.check(run)


def test_the_card_counts_the_items_that_training_data_were_compared_with(tmp_path: Path, tiny_model: Path) -> None:
    run = tiny(tmp_path, tiny_model, write_questions(tmp_path / "train.jsonl", count=1), None)
    common = {"steps": 1, "block_size": 64, "trained_tokens": 9, "final_loss": 1.0, "adapter": "a", "examples": 1}
    for compared, line in (
        ({"igakuqa": 1500, "medqa": 20}, "none of them is one: igakuqa (1,500), medqa (20)"),
        (None, "**Not compared with any benchmark**"),
    ):
        outputs = MpeftOutputs(**common, mixture={}, compared_with=compared, files=[])
        card = MPEFT.card_data(replace(run, outputs={"mpeft": outputs}))
        assert line in card[-1]
