"""A prompt pack from outside the package, as CONTRIBUTING.md shows it."""

import json
from pathlib import Path

import pytest
from package import example, section

from conftest import Cli
from jmedllm.evaluation.prompts import load_pack, prompt_text, render
from jmedllm.evaluation.question import Question

ONE = Question("1", "own", "en", "Which is right?", ("stomach", "liver"), frozenset({1}))
TWO = Question("2", "own", "en", "Which are right?", ("stomach", "liver", "kidney"), frozenset({0, 2}), select=2)
FREE = Question("3", "own", "en", "What does insulin do?", (), frozenset(), reference="It lowers glucose.")


TITLE = "Add a prompt pack"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    folder = tmp_path / "my-pack"
    folder.mkdir()
    (folder / "en.j2").write_text(example(TITLE, "jinja"), encoding="utf-8")
    return folder


def test_the_example_is_short() -> None:
    assert 10 < len(section(TITLE).splitlines()) <= 40


def test_the_example_renders_every_kind_of_question(pack: Path) -> None:
    prompts = load_pack(str(pack))
    assert prompt_text(render(prompts, ONE)) == "Which is right?\nstomach\nliver\nAnswer:\n"
    assert prompt_text(render(prompts, TWO, "letter")) == (
        "Which are right? (choose 2)\na) stomach\nb) liver\nc) kidney\nAnswer:\n"
    )
    assert prompt_text(render(prompts, FREE)) == "What does insulin do?\nAnswer:\n"


def test_it_is_used_from_the_command_line(cli: Cli, tiny_model: Path, pack: Path, tmp_path: Path) -> None:
    exam = tmp_path / "ward.jsonl"
    row = {"id": "1", "question": "Which is right?", "choices": ["stomach", "liver"], "answer": ["b"]}
    exam.write_text(json.dumps(row) + "\n", encoding="utf-8")
    common = ("--model", tiny_model, "--benchmark", exam, "--device", "cpu", "--scorer", "likelihood")
    code, _, errors = cli("eval", *common, "--prompt", pack, "--answer-as", "letter", "--output", tmp_path / "out")
    assert code == 0, errors
    settings = json.loads((tmp_path / "out" / "ward.en.json").read_text(encoding="utf-8"))["settings"]
    assert settings["prompt_pack"] == str(pack)
