"""Scorers from outside the package, as CONTRIBUTING.md shows them: a plain one, and a graded one with a judge."""

import json
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from package import example, install, register

from conftest import Cli, build_tiny, write_questions
from fork_server import ForkServer
from jmedllm.evaluation.records import read_judge_replies, read_scores
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.scorers.base import GradedItemScore, ModelOutput
from jmedllm.models.folder import fingerprint

RECIPE = """name: outside
base: {{path: {model}}}
eval:
  benchmarks: ["{exam}"]
  selection: all
  models: [base]
  scorers: [answer, grade]
  max_new_tokens: 4
  judge: {judge}
"""


EXAMPLE = example("Add a scorer")


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "package", monkeypatch, EXAMPLE, scorers="mention = MENTION\ngrade = outside:GRADE")
    register(SCORERS, "scorers", monkeypatch)


def evaluate(cli: Cli, model: Path, folder: Path, *more: object) -> tuple[int, str, str]:
    exam = write_questions(folder / "exam.jsonl", count=3)
    common = ("--model", model, "--benchmark", exam, "--language", "ja", "--selection", "all", "--device", "cpu")
    return cli("eval", *common, "--max-new-tokens", 4, "--output", folder / "out", *more)


def test_the_example_is_short() -> None:
    assert 20 < len(EXAMPLE.splitlines()) <= 40


@pytest.mark.usefixtures("outside")
def test_a_plain_scorer_from_the_command_line(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    code, output, errors = evaluate(cli, tiny_model, tmp_path, "--scorer", "answer,mention", "--json")
    assert code == 0, errors
    score = json.loads(output)["scores"][1]
    assert (score["scorer"], score["metric"], score["n"], score["binary"]) == ("mention", "accuracy", 3, True)
    answer = json.loads(output)["scores"][0]
    assert (score["floor"], score["constant_floor"]) == (answer["floor"], answer["constant_floor"]) != (0.0, None)
    code, output, _ = cli("report", tmp_path / "out")
    assert code == 0 and "Floor unknown" not in output


@pytest.mark.usefixtures("outside")
def test_recorded_responses_and_changes_of_a_plain_scorer(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate(cli, tiny_model, tmp_path, "--scorer", "mention")[0] == 0
    monkeypatch.setitem(SCORERS, "mention", replace(SCORERS["mention"], score_item=mentioned, floor=None))
    code, output, errors = cli("score", tmp_path / "out", "--diff")
    assert code == 0 and "now    mentioned, 1\n" in output and "no answer" not in output, errors
    responses = tmp_path / "responses.jsonl"
    responses.write_text('{"id": "q0", "response": "x"}\n', encoding="utf-8")
    exam = ("--questions", tmp_path / "exam.jsonl", "--language", "ja")
    code, output, errors = cli("score", responses, *exam, "--scorer", "answer,mention")
    assert code == 0 and "100.0 " in output and "Floor unknown: scorer mention declares none" in output, errors
    code, output, _ = cli("score", responses, *exam, "--scorer", "mention", "--json")
    assert json.loads(output)["scores"][0]["floor"] is None
    code, _, errors = cli("score", responses, *exam, "--scorer", "grade")
    assert code == 2 and "scorer grade needs a judge model; give --judge MODEL_DIR" in errors
    judge = ("--judge", build_tiny(tmp_path / "judge", seed=2, context=2048))
    code, output, errors = cli("score", responses, *exam, "--scorer", "grade", *judge, "--json")
    assert code == 0 and json.loads(output)["scores"][0]["n"] == 3, errors
    code, _, errors = cli("score", responses, *exam, *judge)
    assert code == 2 and "--judge: scorer answer asks no judge; leave it out" in errors
    code, _, errors = cli("score", tmp_path / "out", *judge)
    assert code == 2 and "--judge goes with files of recorded responses" in errors


@dataclass(frozen=True, slots=True)
class WithWords(GradedItemScore):
    """The item score of a later version of a scorer, which has a field more."""

    words: int = field(kw_only=True)


def with_words(_: ModelOutput) -> WithWords:
    return WithWords(1.0, "mentioned", words=3)


@pytest.mark.usefixtures("outside")
def test_another_version_of_a_scorer_scores_the_items_again(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate(cli, tiny_model, tmp_path, "--scorer", "answer,mention")[0] == 0
    later = replace(SCORERS["mention"], score_item=with_words, item_score=WithWords)
    monkeypatch.setitem(SCORERS, "mention", later)
    left_out = "left out scorer mention, which has changed since the item scores were written; run jmedllm score"
    code, output, errors = cli("report", tmp_path / "out", "--html", tmp_path / "page.html")
    assert code == 0 and left_out in " ".join(output.split()), output + errors
    assert "left out scorer mention" in (tmp_path / "page.html").read_text(encoding="utf-8")
    code, output, errors = cli("score", tmp_path / "out", "--diff")
    assert code == 0 and "Not compared: 3 stored by another version of their scorer." in output, errors
    assert cli("score", tmp_path / "out")[0] == 0
    code, output, errors = cli("report", tmp_path / "out")
    assert code == 0 and "left out scorer" not in output + errors
    assert read_scores(tmp_path / "out" / "exam.ja.scores.jsonl")["q2"].item_scores["mention"]["words"] == 3


@pytest.mark.usefixtures("outside")
def test_a_scorer_that_is_not_installed_is_left_out(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert evaluate(cli, tiny_model, tmp_path, "--scorer", "mention,answer")[0] == 0
    other = build_tiny(tmp_path / "other", seed=2)
    assert evaluate(cli, other, tmp_path, "--scorer", "mention", "--output", tmp_path / "alone")[0] == 0
    assert evaluate(cli, other, tmp_path, "--scorer", "mention,answer", "--output", tmp_path / "other_out")[0] == 0
    monkeypatch.delitem(SCORERS, "mention")
    for command in ("report", "compare"):
        code, output, errors = cli(command, tmp_path / "out", tmp_path / "other_out")
        shown = " ".join((output + errors).split())
        assert code == 0 and "left out scorer mention, which is not installed; install the package" in shown
    code, _, errors = cli("report", tmp_path / "alone")
    assert code == 2 and f"{tmp_path / 'alone' / 'exam.ja.json'}: scorer mention is not installed; install" in errors
    code, _, errors = cli("score", tmp_path / "out")
    assert code == 2 and f"{tmp_path / 'out' / 'exam.ja.json'}: scorer mention is not installed; install" in errors


def mentioned(_: ModelOutput) -> GradedItemScore:
    return GradedItemScore(1.0, "mentioned")


@pytest.mark.usefixtures("outside")
def test_a_graded_scorer_with_a_judge(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, errors = evaluate(cli, tiny_model, tmp_path, "--scorer", "grade")
    assert code == 2 and "scorer grade needs a judge model; give --judge MODEL_DIR or --judge URL#NAME" in errors
    assert not (tmp_path / "out").exists()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: mine\nbase: {{path: {tiny_model}}}\nprompt: {{pack: plain}}\n"
        f"eval: {{benchmarks: ['{tmp_path / 'exam.jsonl'}:ja'], selection: all, scorers: [grade]}}\n",
        encoding="utf-8",
    )
    code, _, errors = cli("run", recipe, "--check", "--output", tmp_path / "run")
    assert code == 2 and "scorer grade needs a judge model; give --judge MODEL_DIR" in errors
    graded = ("--scorer", "grade", "--judge", build_tiny(tmp_path / "judge", seed=2, context=2048))
    code, _, errors = evaluate(cli, tiny_model, tmp_path, *graded)
    assert code == 0, errors
    replies = tmp_path / "out" / "exam.ja.judge.jsonl"
    stored = read_judge_replies(replies)
    assert sorted(key[:2] for key in stored) == [("grade", f"q{number}") for number in range(3)]
    assert all("Grade from 0 to 10:" in reply.prompt and reply.new_tokens for reply in stored.values())
    # From here on no model is opened: samples and replies are stored.
    monkeypatch.setattr("jmedllm.models.backends.transformers.model.load_model", None)
    assert evaluate(cli, tiny_model, tmp_path, *graded)[0] == 0
    rows = [json.loads(line) for line in replies.read_text(encoding="utf-8").splitlines()]
    rows = [row | {"response": f"{7 + int(row['id'][1:])}"} for row in rows]
    replies.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    code, output, errors = cli("score", tmp_path / "out", "--diff", "--json")
    assert code == 0 and json.loads(output)["counts"] == {"grade": {"higher value": 3}}, errors
    _, printed, _ = cli("score", tmp_path / "out", "--diff")
    assert "now    0.90 (" in printed and "no answer" not in printed
    code, output, errors = cli("score", tmp_path / "out", "--json")
    assert code == 0, errors
    [score] = json.loads(output)["scores"]
    assert (score["metric"], score["value"], score["binary"]) == ("mean", pytest.approx(0.8), False)
    assert score["low"] < 0.8 < score["high"]
    assert read_scores(tmp_path / "out" / "exam.ja.scores.jsonl")["q2"].item_scores["grade"]["value"] == 0.9


@pytest.mark.exhaustive
@pytest.mark.usefixtures("outside")
def test_several_processes_ask_the_judge_once(tiny_model: Path, tmp_path: Path, forks: ForkServer) -> None:
    exam, judge = (
        write_questions(tmp_path / "exam.jsonl", count=3),
        build_tiny(tmp_path / "judge", seed=2, context=2048),
    )
    options = ["--model", tiny_model, "--benchmark", exam, "--language", "ja", "--selection", "all", "--device", "cpu"]
    options += ["--max-new-tokens", "4", "--scorer", "grade", "--judge", judge, "--precision", "float32", "--json"]
    path = os.pathsep.join([str(tmp_path / "package"), os.environ.get("PYTHONPATH", "")])

    def evaluated(processes: int) -> str:
        command = ("-m", "jmedllm", "eval", *options, "--output", tmp_path / f"out{processes}")
        first, *others = forks.run_ranks(processes, *command, PYTHONPATH=path)
        assert [each.returncode for each in (first, *others)] == [0] * processes, first.stderr
        return first.stdout

    assert json.loads(evaluated(2)) == json.loads(evaluated(1))
    replies = (tmp_path / "out2" / "exam.ja.judge.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["id"] for line in replies) == ["q0", "q1", "q2"]
    # A judge that fails ends all processes.
    options[options.index(judge)] = build_tiny(tmp_path / "short", seed=2, context=512)
    command = ("-m", "jmedllm", "eval", *options, "--output", tmp_path / "out2")
    first, second = forks.run_ranks(2, *command, PYTHONPATH=path)
    assert (first.returncode, second.returncode) == (2, 2) and "judge short: question q0" in first.stderr


@pytest.mark.usefixtures("outside")
def test_a_recipe_names_scorer_and_judge(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    exam, recipe = write_questions(tmp_path / "exam.jsonl", count=2), tmp_path / "recipe.yaml"
    judge = build_tiny(tmp_path / "judge", seed=2, context=2048)
    text = RECIPE.format(model=tiny_model, exam=exam, judge=judge)
    recipe.write_text(text.replace(str(judge), str(tiny_model)), encoding="utf-8")
    code, _, errors = cli("run", recipe, "--output", tmp_path / "run")
    assert code == 2 and "judge tiny: question q0: prompt and 512 new tokens need" in errors, errors
    recipe.write_text(text.replace(str(judge), '""'), encoding="utf-8")
    code, _, errors = cli("run", recipe, "--check")
    assert code == 2 and "judge: the name is empty" in errors
    recipe.write_text(text, encoding="utf-8")
    code, _, errors = cli("run", recipe, "--output", tmp_path / "run")
    assert code == 0, errors
    summary = json.loads((tmp_path / "run" / "eval" / "base" / "exam.ja.json").read_text(encoding="utf-8"))
    assert summary["settings"]["judge"]["model"] == "judge"
    assert [score["scorer"] for score in summary["scores"]] == ["answer", "grade"]


@pytest.mark.usefixtures("outside")
def test_a_score_has_one_judge(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    first, second = (build_tiny(tmp_path / name, seed=seed, context=2048) for name, seed in (("a", 2), ("b", 3)))
    graded = ("--scorer", "grade", "--json")
    code, before, errors = evaluate(cli, tiny_model, tmp_path, *graded, "--judge", first)
    assert code == 0, errors
    # The second judge is killed after one reply.
    replies = tmp_path / "out" / "exam.ja.judge.jsonl"
    rows = [json.loads(line) for line in replies.read_text(encoding="utf-8").splitlines()]
    foreign = rows[0] | {"judge": fingerprint(second), "response": "10"}
    with replies.open("a", encoding="utf-8") as file:
        file.write(json.dumps(foreign, ensure_ascii=False) + "\n")
    for again in (cli("score", tmp_path / "out", "--json"), evaluate(cli, tiny_model, tmp_path, *graded)):
        code, output, errors = again
        assert code == 0 and json.loads(output)["scores"] == json.loads(before)["scores"], errors
        assert read_summary(tmp_path)["settings"]["judge"] == {"model": "a", "fingerprint": fingerprint(first)}
    code, _, errors = evaluate(cli, tiny_model, tmp_path, *graded, "--judge", second)
    assert code == 0 and read_summary(tmp_path)["settings"]["judge"]["model"] == "b", errors
    stored = read_judge_replies(replies)
    assert stored["grade", foreign["id"], fingerprint(second)].response == "10" and len(stored) == 6, (
        "the second judge was asked the other two"
    )
    code, _, errors = evaluate(cli, tiny_model, tmp_path, "--scorer", "answer", "--judge", first)
    assert code == 2 and "judge a: scorer answer asks no judge; leave it out" in errors
    code, _, errors = evaluate(cli, tiny_model, tmp_path, *graded, "--judge", "")
    assert code == 2 and "judge: the name is empty; give a model directory, or URL#NAME" in errors


def read_summary(folder: Path) -> Any:
    return json.loads((folder / "out" / "exam.ja.json").read_text(encoding="utf-8"))


@pytest.mark.usefixtures("outside")
def test_a_judge_that_cannot_answer_is_an_error(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    short = ("--scorer", "grade", "--judge", build_tiny(tmp_path / "short", seed=2, context=512))
    code, _, errors = evaluate(cli, tiny_model, tmp_path, *short)
    assert code == 2 and "judge short: question q0: prompt and 512 new tokens need" in errors
    assert "settings" in read_summary(tmp_path) and "scores" not in read_summary(tmp_path)
    code, _, errors = cli("score", tmp_path / "out")
    assert code == 2 and "scorer grade needs replies of a judge model, which 3 of 3 samples do not have" in errors
    code, output, errors = evaluate(cli, tiny_model, tmp_path, *short, "--skip-invalid")
    assert code == 0 and read_summary(tmp_path)["failures"] == {"judge: too long": ["q0", "q1", "q2"]}, errors
    assert "3 of 3 items count as no answer, not graded, too long for the judge's context" in " ".join(output.split())
    assert cli("score", tmp_path / "out")[0] == 0
    code, _, errors = evaluate(cli, tiny_model, tmp_path, "--scorer", "grade")
    assert code == 2 and "3 replies of short are missing; give --judge" in errors
    responses = tmp_path / "responses.jsonl"
    responses.write_text('{"id": "q0", "response": "x"}\n', encoding="utf-8")
    recorded = ("score", responses, "--questions", tmp_path / "exam.jsonl", "--language", "ja", *short)
    code, _, errors = cli(*recorded)
    assert code == 2 and "judge short: question q0: prompt and 512 new tokens need" in errors
    code, output, errors = cli(*recorded, "--skip-invalid", "--json")
    assert code == 0 and "The judge could not grade 1 items: q0." in json.loads(output)["notes"], errors


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize(("value", "binary", "wanted"), [(1.7, True, "0 or 1"), (1.7, False, "from 0 to 1")])
def test_a_value_out_of_range_names_scorer_and_item(
    cli: Cli,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    binary: bool,
    wanted: str,
) -> None:
    wrong = replace(SCORERS["mention"], score_item=lambda _: GradedItemScore(value), binary=binary)
    monkeypatch.setitem(SCORERS, "mention", wrong)
    code, _, errors = evaluate(cli, tiny_model, tmp_path, "--scorer", "mention")
    assert code == 2 and f"scorer mention, item q0: value {value} is not {wanted}" in errors
