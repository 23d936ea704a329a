"""A backend from outside the package, as CONTRIBUTING.md shows it."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from package import example, install, register

from conftest import Cli, write_questions
from jmedllm.errors import InputError
from jmedllm.models.backends import BACKENDS, require_backend
from jmedllm.models.backends.base import Completion, GenerationConfig, Request, Requirement, Response

RECIPE = """name: outside
base: {{path: {model}}}
eval:
  benchmarks: ["{exam}"]
  selection: all
  models: [base]
  scorers: [answer]
  backend: mine
"""


EXAMPLE = example("Add a backend")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "package", monkeypatch, EXAMPLE, backends="mine = BACKEND")
    register(BACKENDS, "backends", monkeypatch)


def test_the_example_is_short() -> None:
    assert 10 < len(EXAMPLE.splitlines()) <= 40


@pytest.mark.usefixtures("mine")
def test_it_evaluates_a_model_from_the_command_line(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    common = ("--model", tiny_model, "--benchmark", exam, "--language", "ja", "--selection", "all", "--device", "cpu")
    code, _, errors = cli("eval", *common, "--backend", "mine", "--scorer", "answer", "--output", tmp_path / "out")
    assert code == 0, errors
    result = json.loads((tmp_path / "out" / "exam.ja.json").read_text(encoding="utf-8"))
    assert result["settings"]["backend"] == "mine" and result["asked"] == result["readings"]["answer"]["label"] > 0


@pytest.mark.usefixtures("mine")
def test_undeclared_capabilities_are_refused_before_opening(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "mine", replace(BACKENDS["mine"], open=lambda _: pytest.fail("opened")))
    exam = write_questions(tmp_path / "exam.jsonl")
    common = ("--model", tiny_model, "--benchmark", exam, "--selection", "all", "--backend", "mine", "--device", "cpu")
    for more, problem in (
        ((), "does not support log-probabilities of whole choices (scorer likelihood); use backend transformers"),
        (("--quantization", "nf4"), "does not support quantization nf4; use backend transformers"),
        (("--adapter", tiny_model), "does not support adapters (--adapter); use backend transformers or vllm"),
        (("--server", "http://127.0.0.1:1"), "does not support a server (--server); use backend openai"),
    ):
        code, _, errors = cli("eval", *common, *more, "--output", tmp_path / "out")
        assert code == 2 and f"error: backend mine {problem}" in errors, errors
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("mine")
def test_a_recipe_names_it(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    exam, recipe = write_questions(tmp_path / "exam.jsonl"), tmp_path / "recipe.yaml"
    text = RECIPE.format(model=tiny_model, exam=exam)
    recipe.write_text(text, encoding="utf-8")
    code, _, errors = cli("run", recipe, "--output", tmp_path / "run")
    assert code == 0, errors
    [summary] = (tmp_path / "run" / "eval" / "base").rglob("exam.ja.json")
    assert json.loads(summary.read_text(encoding="utf-8"))["settings"]["backend"] == "mine"
    recipe.write_text(text.replace("[answer]", "[answer, likelihood]"), encoding="utf-8")
    code, _, errors = cli("run", recipe, "--output", tmp_path / "other")
    assert code == 2 and "backend mine does not support log-probabilities" in errors, errors
    recipe.write_text(text.replace("mine", "mind"), encoding="utf-8")
    code, _, errors = cli("run", recipe, "--check", "--output", tmp_path / "other")
    assert code == 2 and "recipe.yaml:3: eval: unknown backend 'mind': did you mean mine?" in errors, errors


def test_a_server_cannot_run_the_models_of_a_recipe(cli: Cli, tiny_model: Path, tmp_path: Path) -> None:
    exam, recipe = write_questions(tmp_path / "exam.jsonl"), tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(model=tiny_model, exam=exam).replace("mine", "openai"), encoding="utf-8")
    code, _, errors = cli("run", recipe, "--output", tmp_path / "run")
    assert code == 2 and "backend openai does not support the models of a run, which are directories" in errors


def test_a_requirement_that_no_backend_meets_is_reported() -> None:
    with pytest.raises(InputError, match="backend vllm does not support magic; leave it out"):
        require_backend("vllm", [Requirement("magic", lambda _: False)])


def test_every_backend_is_declared_without_its_libraries() -> None:
    """Importing the registry loads no library that computes or connects."""
    code = (
        "import sys; from jmedllm.models.backends import BACKENDS; "
        "heavy = {'torch', 'transformers', 'vllm', 'openai'} & set(sys.modules); sys.exit(str(heavy) if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.usefixtures("mine")
def test_a_backend_that_omits_requests_is_refused(
    cli: Cli, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Half:
        name = "half"

        def answer(self, requests: Sequence[Request], _: GenerationConfig) -> Iterator[tuple[int, Response]]:
            for index in range(0, len(requests), 2):
                yield index, Response(Completion("a"))

    monkeypatch.setitem(BACKENDS, "mine", replace(BACKENDS["mine"], open=lambda _: Half()))
    exam = write_questions(tmp_path / "exam.jsonl", count=4)
    common = ("--model", tiny_model, "--benchmark", exam, "--language", "ja", "--selection", "all", "--device", "cpu")
    code, _, errors = cli("eval", *common, "--backend", "mine", "--scorer", "answer", "--output", tmp_path / "out")
    assert code == 2
    assert "backend mine: has not answered 2 of 4 requests, the first is item q1; fix the backend" in errors
    assert "scores" not in json.loads((tmp_path / "out" / "exam.ja.json").read_text(encoding="utf-8"))
