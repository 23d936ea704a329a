"""`jmedllm init`: the recipe that it writes passes the check and runs, and wrong answers are one line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Cli, build_tiny, write_questions
from jmedllm.recipe_file import load_recipe

TEXTS = "壊血病はビタミンCの欠乏で起こる。\nScurvy is caused by a lack of vitamin C.\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with texts and an exam, which is where the commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JMEDLLM_DATA", raising=False)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "notes.txt").write_text(TEXTS * 20, encoding="utf-8")
    write_questions(tmp_path / "ward.jsonl")
    return tmp_path


def test_the_recipe_passes_the_check_and_every_line_is_explained(cli: Cli, here: Path) -> None:
    base = build_tiny(here / "base", context=1024)
    given = ("--base", base, "--texts", "texts", "--questions", "demo", "--benchmark", "ward.jsonl,demo:ja")
    code, output, errors = cli("init", "ward.yaml", *given)
    assert (code, output, errors) == (0, "", "wrote: ward.yaml\nnext:  jmedllm run ward.yaml\n")
    code, output, errors = cli("run", "ward.yaml", "--check")
    stages = [line.split()[0] for line in output.splitlines()]
    assert code == 0, errors
    assert stages == ["corpus", "mfpt", "mpeft", "merge", "eval", "report", "ward.yaml:"]
    lines = (here / "ward.yaml").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if line and "# " not in line and not line.startswith("    - {")]
    recipe = load_recipe(here / "ward.yaml")
    assert recipe.name == "ward" and recipe.mpeft and recipe.eval and recipe.corpus
    assert [(each.benchmark, each.languages, each.split) for each in recipe.mpeft.questions] == [
        ("demo", ["ja", "en"], "train")
    ]
    assert recipe.eval.benchmarks == ["ward.jsonl", "demo:ja"] and recipe.eval.models == ["base", "mfpt", "mpeft"]
    assert recipe.corpus.block_size == 1024  # what the model reads
    assert recipe.prompt.chat is False
    (here / "ward.yaml").write_text("\n".join(lines).replace("# deploy:", "deploy:").replace("#   types", "  types"))
    offered = load_recipe(here / "ward.yaml").deploy
    assert offered is not None and offered.types == ["q4_k_m"]


def test_an_evaluation_alone_runs(cli: Cli, here: Path, tiny_model: Path) -> None:
    assert cli("init", "my ward.yaml", "--base", tiny_model, "--benchmark", "ward.jsonl")[0] == 0
    code, output, errors = cli("run", "my ward.yaml")
    assert code == 0 and "ward ja" in output
    report = Path("runs") / "my-ward"
    assert errors.endswith(
        f"wrote: {report / 'report.html'}, {report / 'report.md'}\nnext:  jmedllm compare {report}\n"
    )


@pytest.mark.exhaustive
def test_memory_settings_are_the_planner_s_for_the_machine(cli: Cli, here: Path) -> None:
    large = ("--base", "Qwen/Qwen2-7B-Instruct", "--texts", "texts", "--questions", "demo")
    code, _, _ = cli("init", "a.yaml", *large, "--gpu", "24GiB", "--ram", "128GiB")
    recipe = load_recipe(here / "a.yaml")
    assert code == 0 and recipe.mfpt and recipe.mfpt.cpu_offload == "optimizer"
    text = (here / "a.yaml").read_text(encoding="utf-8")
    assert "cpu_offload: optimizer" in text and text.startswith(
        "# Written by jmedllm init for a GPU of 24 GiB with 24.0 GiB of memory."
    )
    code, _, _ = cli("init", "b.yaml", *large, "--gpu", "h200")
    recipe = load_recipe(here / "b.yaml")
    assert code == 0 and recipe.mfpt and recipe.mfpt.cpu_offload == "none"
    code, _, errors = cli("init", "c.yaml", *large, "--gpu", "6GiB", "--ram", "16GiB")
    assert code == 2 and errors.startswith("error: mfpt does not fit a GPU of 6 GiB") and errors.count("\n") == 1
    assert not (here / "c.yaml").exists()


def test_wrong_answers_are_one_line(cli: Cli, here: Path, tiny_model: Path) -> None:
    (here / "there.yaml").touch()
    base = ("--base", tiny_model)
    cases: list[tuple[tuple[object, ...], str]] = [
        (("there.yaml", *base), "there.yaml: exists; choose another name, or remove it"),
        (("--yes",), "give --base, the model to adapt"),
        (("--base", "nowhere"), "base nowhere: no such directory; give a directory with"),
        (base, "nothing to do: name --texts, --questions or --instructions to train on, or --benchmark"),
        ((*base, "--texts", "nowhere"), "nowhere: no such file or folder"),
        ((*base, "--questions", "igakuqa"), "only test questions; benchmarks with a train split: medqa,"),
        ((*base, "--questions", "medqua"), "unknown benchmark 'medqua': did you mean medqa"),
        ((*base, "--questions", "medqa:en"), "jmedllm data get medqa"),
        ((*base, "--instructions", "ward.jsonl"), 'ward.jsonl: "question" is called "instruction" here'),
        ((*base, "--benchmark", "igakuq"), "unknown benchmark 'igakuq': did you mean igakuqa"),
        ((*base, "--benchmark", "none.csv"), "none.csv: no such file"),
        ((*base, "--benchmark", "ward.jsonl", "--gpu", "rtx409"), "'rtx409': did you mean rtx4090"),
        ((*base, "--benchmark", "ward.jsonl", "--ram", "8GiB"), "--ram describes another machine"),
    ]
    for arguments, expected in cases:
        code, output, errors = cli("init", *arguments)
        assert (code, output) == (2, "") and expected in errors and errors.count("\n") == 1, f"{arguments}: {errors}"
    assert not (here / "recipe.yaml").exists() and not (here / "there.yaml").read_bytes()


WARD = "stem,A,B,key\nWhich metal?,iron,zinc,B\nWhich number?,one,two,A\n"
COLUMNS = {"question": "stem", "choices": "A:B", "answer": "key"}


def test_columns_of_your_own_questions_are_written_into_the_recipe(cli: Cli, here: Path, tiny_model: Path) -> None:
    (here / "ward.csv").write_text(WARD, encoding="utf-8")
    (here / "train.csv").write_text(WARD.replace("W", "V").replace("iron", "gold"), encoding="utf-8")
    given = ("--base", tiny_model, "--questions", "train.csv,demo", "--benchmark", "ward.csv")
    code, _, errors = cli("init", "ward.yaml", *given)
    assert code == 2 and "--map question=stem,choices=A:B,answer=key" in errors
    code, _, errors = cli("init", "ward.yaml", *given, "--map", "question=stem,choices=A:B,answer=key")
    assert code == 0, errors
    recipe = load_recipe(here / "ward.yaml")
    assert recipe.eval and recipe.eval.map == COLUMNS and recipe.mpeft
    assert [each.map for each in recipe.mpeft.questions] == [COLUMNS, {}]
    assert cli("run", "ward.yaml", "--check")[0] == 0


def test_on_a_terminal_it_asks_for_columns_that_have_other_names(
    cli: Cli, here: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "ward.csv").write_text(WARD, encoding="utf-8")
    answers = iter(["ward.csv", "question=stm", "ward.csv", ""])
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("typer.prompt", lambda question, **_: next(answers))
    given = ("--base", tiny_model, "--texts", "texts", "--questions", "", "--instructions", "", "--gpu", "24GiB")
    code, _, errors = cli("init", "ward.yaml", *given)
    assert code == 0 and "unknown column 'stm'" in errors, errors
    recipe = load_recipe(here / "ward.yaml")
    assert recipe.eval and recipe.eval.map == COLUMNS and list(answers) == []


def test_on_a_terminal_it_asks_and_asks_again(
    cli: Cli, here: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions: list[str] = []
    answers = iter(["nowhere", str(tiny_model), "texts", "", "", "ward.jsonl", ""])

    def prompt(question: str, **_: object) -> str:
        questions.append(question.partition(" (")[0])
        return next(answers)

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("typer.prompt", prompt)
    code, _, errors = cli("init")
    assert code == 0 and errors.count("error: base nowhere") == 1
    assert questions == [
        "Model to adapt", "Model to adapt", "Medical texts to train on", "Questions to tune on",
        "Instructions to tune on", "Benchmarks to evaluate on", "GPU",
    ]  # fmt: skip
    recipe = load_recipe(here / "recipe.yaml")
    assert recipe.mfpt and not recipe.mpeft and recipe.eval and recipe.eval.models == ["base", "mfpt"]


class Terminal:
    """A standard input that a person types into."""

    def isatty(self) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())


def test_benchmarks_with_metrics_of_their_own_get_their_scorers(
    cli: Cli, tiny_model: Path, shared: Path, tmp_path: Path
):
    recipe = tmp_path / "mine.yaml"
    given = ("--base", tiny_model, "--questions", "yakugakuqa", "--benchmark", "jmle2026,crade,mrner-disease")
    code, _, errors = cli("init", recipe, "--yes", *given, "--data", shared)
    assert code == 0, errors
    assert "scorers: [answer, likelihood, kappa, entities]" in recipe.read_text(encoding="utf-8")
