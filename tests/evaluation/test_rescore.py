"""`jmedllm score` on stored evaluations: scored again without the model, and what differs from the stored scores."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, write_questions
from jmedllm.evaluation.records import (
    JudgeReply,
    append_judge_replies,
    read_judge_replies,
    read_samples,
    read_scores,
)


@pytest.fixture
def stored(cli: Cli, tiny_model: Path, tmp_path: Path) -> Path:
    """An evaluation in both languages that asked for responses only."""
    command = (
        "eval",
        "--model",
        tiny_model,
        "--benchmark",
        write_questions(tmp_path / "exam.jsonl"),
        "--selection",
        "all",
    )
    more = ("--scorer", "answer", "--max-new-tokens", 4, "--device", "cpu", "--output", tmp_path / "out")
    code, _, errors = cli(*command, *more)
    assert code == 0, errors
    return tmp_path / "out"


def edit_first_gold(exam: Path, gold: str) -> None:
    rows = [json.loads(line) for line in exam.read_text(encoding="utf-8").splitlines()]
    rows[0]["answer"] = [gold]
    exam.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("exam.*"))}


def test_the_same_scorers_change_nothing(cli: Cli, stored: Path) -> None:
    before = contents(stored)
    code, output, errors = cli("score", stored, "--diff")
    assert code == 0 and "0 of 14 item scores differ from the stored ones. Nothing is written." in output, errors
    assert cli("score", stored)[0] == 0
    assert contents(stored) == before


def test_another_scorer_is_added_without_the_model(cli: Cli, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = (stored / "exam.ja.samples.jsonl").read_bytes()
    monkeypatch.setattr("jmedllm.models.backends.transformers.model.load_model", None)
    code, output, errors = cli("score", stored, "--scorer", "legacy", "--json")
    assert code == 0, errors
    assert {score["scorer"] for score in json.loads(output)["scores"]} == {"answer", "legacy"}
    assert set(read_scores(stored / "exam.ja.scores.jsonl")["q0"].item_scores) == {"answer", "legacy"}
    assert (stored / "exam.ja.samples.jsonl").read_bytes() == samples


def test_a_scorer_is_added_to_the_evaluations_that_it_can_score(
    cli: Cli, stored: Path, tiny_model: Path, tmp_path: Path
) -> None:
    free = {"id": "f1", "question": "What is scurvy?", "reference": "a lack of vitamin C", "language": "en"}
    (tmp_path / "free.jsonl").write_text(json.dumps(free) + "\n", encoding="utf-8")
    command = ("eval", "--model", tiny_model, "--benchmark", tmp_path / "free.jsonl", "--scorer", "reference,legacy")
    code, _, errors = cli(*command, "--max-new-tokens", 4, "--device", "cpu", "--output", stored)
    assert code == 0, errors
    code, output, errors = cli("score", stored, "--scorer", "legacy", "--json")
    assert code == 0, errors
    found = {(score["benchmark"], score["scorer"]) for score in json.loads(output)["scores"]}
    assert found == {("exam", "answer"), ("exam", "legacy"), ("free", "reference")}
    code, _, errors = cli("score", stored, "--scorer", "official")
    assert code == 2 and "scorer official cannot score any of these questions; choose another scorer: answer" in errors


def test_no_library_that_runs_models_is_imported(stored: Path) -> None:
    """In a process of its own: scoring 858 samples takes a second because of it."""
    code = (
        "import sys; from jmedllm.cli import main\n"
        f"sys.argv = ['jmedllm', 'score', {str(stored)!r}]\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'torch', 'transformers', 'peft'} & {*sys.modules}; sys.exit(str(heavy) if heavy else 0)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0 and "exam ja" in found.stdout, found.stderr


def test_what_the_samples_lack_is_named_with_the_command(cli: Cli, stored: Path) -> None:
    code, _, errors = cli("score", stored, "--scorer", "likelihood")
    assert code == 2
    assert "scorer likelihood needs log-probabilities, which 7 of 7 samples do not have" in errors
    assert f"--output {stored} --scorer answer,likelihood" in errors


@pytest.mark.parametrize("options", [(), ("--name", "my model", "--answer-as", "letter", "--limit", "2")])
def test_the_command_that_completes_the_samples_runs(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """With a file of other columns, and from another working directory."""
    rows = [f"{number},問{number},甲,乙,丙,丁,b" for number in range(3)]
    (tmp_path / "ward.csv").write_text("\n".join(["nr,frage,A,B,C,D,key", *rows]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    columns = ("--map", "id=nr,question=frage,choices=A:D,answer=key")
    command = ("eval", "--model", tiny_model, "--benchmark", "ward.csv", *columns, "--scorer", "answer", *options)
    code, _, errors = cli(*command, "--max-new-tokens", 4, "--device", "cpu", "--output", tmp_path / "out")
    assert code == 0, errors
    code, _, errors = cli("score", tmp_path / "out", "--scorer", "likelihood")
    assert code == 2 and "get them from the model: jmedllm eval" in errors
    program, *words = shlex.split(errors.partition("get them from the model: ")[2])
    assert program == "jmedllm"
    monkeypatch.chdir(tiny_model)
    code, _, errors = cli(*words)
    assert code == 0, errors
    code, _, errors = cli("score", tmp_path / "out", "--scorer", "likelihood", "--questions", tmp_path / "ward.csv")
    assert code == 0, errors


def test_a_relative_file_is_looked_for_in_the_working_directory(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_questions(tmp_path / "exam.jsonl")
    monkeypatch.chdir(tmp_path)
    command = ("eval", "--model", tiny_model, "--benchmark", "exam.jsonl:ja", "--limit", 1, "--scorer", "answer")
    code, _, errors = cli(*command, "--max-new-tokens", 2, "--device", "cpu", "--output", tmp_path / "out")
    assert code == 0, errors
    monkeypatch.chdir(tiny_model)
    code, _, errors = cli("score", tmp_path / "out")
    assert code == 2 and f"exam.jsonl: no such file in {tiny_model}; exam has your own questions" in errors


def test_languages_are_in_the_order_of_the_evaluation(cli: Cli, stored: Path) -> None:
    _, output, _ = cli("score", stored, "--json")
    assert [task["language"] for task in json.loads(output)["tasks"]] == ["ja", "en"]


def test_a_scorer_that_is_no_longer_installed_is_named(cli: Cli, stored: Path) -> None:
    summary = stored / "exam.ja.json"
    summary.write_text(summary.read_text(encoding="utf-8").replace('"answer"', '"gone"'), encoding="utf-8")
    code, _, errors = cli("score", stored)
    assert code == 2 and f"{summary}: scorer gone is not installed; install the package that registers it" in errors


def test_a_corrected_gold_is_listed_with_both_readings(cli: Cli, stored: Path, tmp_path: Path) -> None:
    scores = stored / "exam.ja.scores.jsonl"
    rows = [json.loads(line) for line in scores.read_text(encoding="utf-8").splitlines()]
    rows[0]["item_scores"]["answer"] |= {"chosen": [1], "how": "label", "correct": True}
    scores.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    before = contents(stored)
    code, output, errors = cli("score", stored, "--diff", "--json")
    assert code == 0, errors
    found: dict[str, Any] = json.loads(output)
    [change] = found["changes"]
    assert found["counts"] == {"answer": {change["kind"]: 1}}
    assert (change["id"], change["task"], change["before"]["chosen"]) == ("q0", "exam.ja", ["b"])
    _, printed, _ = cli("score", stored, "--diff")
    assert "before b (label), 1" in printed and "1 of 14 item scores differ" in printed
    assert contents(stored) == before
    # The gold counts, the text does not change: nothing has to be asked.
    edit_first_gold(tmp_path / "exam.jsonl", "d")
    assert cli("score", stored)[0] == 0
    edited = read_scores(scores)["q0"]
    assert edited.question_hash != rows[0]["question_hash"]


def test_changed_texts_are_refused(cli: Cli, stored: Path, tmp_path: Path) -> None:
    exam = tmp_path / "exam.jsonl"
    exam.write_text(exam.read_text(encoding="utf-8").replace("痛風3", "糖尿病"), encoding="utf-8")
    code, _, errors = cli("score", stored)
    assert code == 2 and "question q3 has another text, other choices or other pictures now; evaluate again" in errors
    exam.unlink()
    code, _, errors = cli("score", stored)
    assert code == 2 and "no such file; exam has your own questions; give their file with --questions" in errors


def test_an_unfinished_evaluation_is_scored_and_not_written(cli: Cli, stored: Path) -> None:
    samples = stored / "exam.ja.samples.jsonl"
    lines = samples.read_text(encoding="utf-8").splitlines(keepends=True)
    samples.write_text("".join(lines[:3]), encoding="utf-8")
    before = contents(stored)
    code, output, errors = cli("score", stored, "--json")
    assert code == 0, errors
    assert [score["n"] for score in json.loads(output)["scores"]] == [3, 7]
    assert {name for name in before if before[name] != contents(stored)[name]} == set()
    assert "unfinished, 3 of 7 items; its scores are not written" in errors
    _, _, errors = cli("score", stored)
    assert f"wrote: {stored}\nnext:  jmedllm report {stored}" in errors
    (stored / "exam.en.samples.jsonl").unlink()
    _, _, errors = cli("score", stored)
    assert "wrote:" not in errors
    *_, last = errors.splitlines()
    assert last.startswith("next:  jmedllm eval --model ") and f" --output {stored} " in last


@pytest.mark.parametrize("left", [3, 7])
def test_a_last_line_that_is_being_written_is_not_read(cli: Cli, stored: Path, left: int) -> None:
    """`jmedllm eval` may be writing it, so it stays in the file."""
    samples = stored / "exam.ja.samples.jsonl"
    lines = samples.read_bytes().splitlines(keepends=True)
    samples.write_bytes(b"".join(lines[:left]) + lines[0][:200])
    before = contents(stored)
    code, output, errors = cli("score", stored, "--json")
    assert code == 0 and [score["n"] for score in json.loads(output)["scores"]] == [left, 7], errors
    assert ("unfinished, 3 of 7 items" in errors) is (left == 3)
    assert contents(stored)["exam.ja.samples.jsonl"] == before["exam.ja.samples.jsonl"]


def test_a_judge_reply_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "exam.ja.judge.jsonl"
    append_judge_replies(file, [JudgeReply("grade", name, "judge", "hash", "prompt", "鍵") for name in ("q0", "q1")])
    file.write_bytes(file.read_bytes().rpartition("鍵".encode())[0] + "鍵".encode()[:1])  # within a character
    before = file.read_bytes()
    assert [reply.id for reply in read_judge_replies(file).values()] == ["q0"]
    assert file.read_bytes() == before


def test_item_scores_that_were_never_stored_are_new(cli: Cli, stored: Path) -> None:
    code, output, errors = cli("score", stored, "--scorer", "legacy", "--diff")
    assert code == 0 and "0 of 14 item scores differ from the stored ones. Not compared: 14 new. " in output, errors
    scores = stored / "exam.ja.scores.jsonl"
    rows = [json.loads(line) for line in scores.read_text(encoding="utf-8").splitlines()]
    rows[0]["item_scores"]["legacy"] = rows[0]["item_scores"]["answer"]
    scores.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[:5]), encoding="utf-8")
    code, output, errors = cli("score", stored, "--diff", "--json")
    assert code == 0, errors
    assert json.loads(output)["item_scores"] == {"compared": 12, "other_version": 0, "new": 2, "dropped": 1}


@pytest.mark.parametrize(
    "line", ['{"id": "q', '{"id": "q0"}', '{"id": "q0", "question_hash": "", "item_scores": [1]}', "\0\0"]
)
def test_an_invalid_scores_file_is_written_again(cli: Cli, stored: Path, line: str) -> None:
    before, scores = contents(stored), stored / "exam.ja.scores.jsonl"
    scores.write_text(line + "\n", encoding="utf-8")
    code, _, errors = cli("report", stored)
    assert code == 2 and f"{scores}:1: " in errors and errors.endswith(f"again with: jmedllm score {stored}\n")
    code, _, errors = cli("score", stored)
    assert code == 0 and f"note: {scores}:1: " in errors and "; all item scores are computed again" in errors
    assert contents(stored) == before


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (("--benchmark", "igakuqa"), "--benchmark goes with files of recorded responses"),
        (("nowhere.jsonl",), "give directories of jmedllm eval, or files of recorded responses, not both"),
        (("--scorer", "answr"), "unknown scorer 'answr': did you mean answer?"),
    ],
)
def test_contradictory_settings_are_refused(cli: Cli, stored: Path, more: tuple[str, ...], problem: str) -> None:
    code, _, errors = cli("score", stored, *more)
    assert code == 2 and problem in errors


def test_neither_torch_nor_transformers_is_imported(stored: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "jmedllm", "score", stored, "--diff"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "transformers"}
    assert len(read_samples(stored / "exam.ja.samples.jsonl")) == 7
