"""The next command that each command prints runs when it is pasted."""

import json
import shlex
from pathlib import Path
from shutil import copytree

import pytest

from conftest import Cli, write_questions
from jmedllm.cli.ending import print_use
from jmedllm.data.catalogue import SOURCES

Words = tuple[object, ...]

TEXTS = "壊血病はビタミンCの欠乏で起こる。\nScurvy is caused by a lack of vitamin C.\n" * 20


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tiny_adapter: Path) -> Path:
    """The working directory: links to a model and its adapter, texts, questions under two kinds of names, recipes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JMEDLLM_DATA", raising=False)
    Path("model").symlink_to(tiny_model)
    Path("adapter").symlink_to(tiny_adapter)
    Path("texts").mkdir()
    Path("texts/notes.txt").write_text(TEXTS, encoding="utf-8")
    Path("lines.jsonl").write_text(json.dumps({"body": TEXTS}) + "\n", encoding="utf-8")
    both = write_questions(Path("both.jsonl"), count=3).read_text(encoding="utf-8").splitlines(keepends=True)
    Path("ja.jsonl").write_text("".join(line for line in both if '"ja"' in line), encoding="utf-8")
    Path("ward.csv").write_text("stem,A,B,key\nWhich?,iron,zinc,B\nWhat?,one,two,A\nWho?,,,\n", encoding="utf-8")
    Path("train.jsonl").write_text('{"instruction": "説明せよ。", "output": "ビタミンC"}\n', encoding="utf-8")
    tune = "mpeft: {instructions: [train.jsonl], steps: 1, learning_rate: 1e-4, block_size: 128}\n"
    head = "name: mine\nbase: {path: model}\nprompt: {pack: plain}\n"
    Path("evaluate.yaml").write_text(
        f"{head}eval: {{benchmarks: [ja.jsonl], selection: all, scorers: [likelihood]}}\n", encoding="utf-8"
    )
    Path("tune.yaml").write_text(f"{head}{tune}", encoding="utf-8")
    Path("corpus.yaml").write_text(f"{head}corpus: {{inputs: [texts], block_size: 64}}\n", encoding="utf-8")
    Path("large.yaml").write_text(head.replace("model", "Qwen/Qwen2-7B-Instruct") + tune, encoding="utf-8")
    for file in SOURCES["medqa-5"].files:
        (Path("part") / file.path).parent.mkdir(parents=True, exist_ok=True)
        (Path("part") / file.path).write_text("{}\n", encoding="utf-8")
    return tmp_path


def evaluation(benchmark: str, *more: object) -> Words:
    scored = ("--scorer", "likelihood", "--selection", "all", "--output", "out")
    return ("eval", "--model", "model", "--benchmark", benchmark, *scored, *more)


MAPPED = evaluation("ward.csv", "--map", "question=stem,choices=A:B,answer=key", "--skip-invalid")
RAN_BEFORE: dict[str, list[Words]] = {
    "report, one language": [evaluation("ja.jsonl")],
    "report of a mapped file": [MAPPED],
    "report, both languages": [evaluation("both.jsonl")],
    "compare": [evaluation("both.jsonl")],
    "score": [evaluation("ja.jsonl")],
}
CASES: dict[str, tuple[Words, str]] = {
    "eval of your own questions": (evaluation("ja.jsonl"), "report out --html out/report.html"),
    "eval of a mapped file": (MAPPED, "report out --html out/report.html"),
    "report, one language": (("report", "out"), "eval --model MODEL --benchmark ja.jsonl --output DIR"),
    "report of a mapped file": (
        ("report", "out"),
        "eval --model MODEL --benchmark ward.csv --map question=stem,choices=A:B,answer=key --skip-invalid "
        "--output DIR",
    ),
    "report, both languages": (("report", "out"), "compare out"),
    "compare": (("compare", "out"), "report out --html report.html"),
    "score": (("score", "out"), "report out --html out/report.html"),
    "run --check": (("run", "evaluate.yaml", "--check"), "run evaluate.yaml"),
    "run that evaluates": (("run", "evaluate.yaml"), "eval --model MODEL --benchmark ja.jsonl --output DIR"),
    "run without an evaluation": (
        ("run", "tune.yaml"),
        "eval --model runs/mine/merge/model --benchmark NAME --output DIR",
    ),
    "run of a corpus": (("run", "corpus.yaml"), "init RECIPE.yaml --base MODEL --texts runs/mine/corpus"),
    "tune": (("tune", "tune.yaml", "--output", "r"), "run tune.yaml --output r"),
    "plan": (
        ("plan", "large.yaml", "--gpu", "24GiB", "--ram", "64GiB", "--output", "r"),
        "run large.yaml --output r",
    ),
    "init": (("init", "new.yaml", "--base", "model", "--benchmark", "ja.jsonl"), "run new.yaml"),
    "merge": (
        ("merge", "--model", "model", "--adapter", "adapter", "--output", "merged"),
        "eval --model merged --benchmark NAME --output DIR",
    ),
    "corpus build": (
        ("corpus", "build", "texts", "--output", "built", "--processes", "1"),
        "init RECIPE.yaml --base MODEL --texts built",
    ),
    "tokens": (
        ("tokens", "--tokenizer", "model", "lines.jsonl", "--field", "body"),
        "corpus build lines.jsonl --field body --output DIR",
    ),
    "data list, nothing there": (("data", "list", "--data", "none"), "data get igakuqa --data none"),
    "data list, all of one": (("data", "list", "--data", "part"), "data check --data part"),
}
NOT_RUN = {"data list, nothing there", "data list, all of one", "plan"}
"""Commands that would download, that would report these files as wrong, or that need a base that is not here."""


def ending(errors: str) -> str:
    *_, last = [line for line in errors.splitlines() if line.startswith("next:")]
    program, _, words = last.removeprefix("next:").strip().partition(" ")
    assert program == "jmedllm", errors
    return words


SLOW = {"plan", "run without an evaluation"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive) if name in SLOW else name for name in CASES]
)
def test_the_next_command_runs(cli: Cli, here: Path, name: str) -> None:
    for words in RAN_BEFORE.get(name, ()):
        assert cli(*words)[0] == 0
    words, expected = CASES[name]
    code, _, errors = cli(*words)
    assert (code, ending(errors)) == (0, expected), errors
    if name in NOT_RUN:
        code, output, _ = cli(*[word for word in shlex.split(expected) if not word.startswith("-")][:2], "--help")
        assert code == 0 and all(word in output for word in shlex.split(expected) if word.startswith("--"))
        return
    capitals = {"MODEL": "model", "NAME": "ja.jsonl", "DIR": "next", "RECIPE.yaml": "next.yaml"}
    code, _, errors = cli(*(capitals.get(word, word) for word in shlex.split(expected)))
    assert code == 0, errors


def use(errors: str) -> list[str]:
    labels = ("use:", "chat:")
    return [line.partition(" ")[2].strip() for line in errors.splitlines() if line.startswith(labels)]


def test_a_run_ends_with_how_to_serve_and_chat_with_its_model(
    cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = "runs/mine/mine.gguf"
    commands = [
        f"jmedllm deploy gguf runs/mine --output {served} && jmedllm deploy serve {served}",
        f"jmedllm chat {served}",
    ]
    code, _, errors = cli("run", "tune.yaml")
    assert (code, use(errors)) == (0, commands), errors
    monkeypatch.setattr("jmedllm.cli.ending.find_spec", lambda name: None if name == "xllamacpp" else name)
    code, _, errors = cli("run", "tune.yaml")
    assert [line.split(">")[0] for line in use(errors)[:1]] == ["pip install 'xllamacpp"]
    assert (code, use(errors)[1:]) == (0, commands), errors


def test_a_model_that_llama_cpp_does_not_know_is_served_itself(
    here: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copytree(tiny_model, here / "run" / "merge" / "model")
    config = (model / "config.json").read_text()
    (model / "config.json").write_text(config.replace("Qwen2ForCausalLM", "FalconForCausalLM"))
    print_use(here / "run", model, None)
    assert use(capsys.readouterr().err) == [f"jmedllm deploy serve {model}", f"jmedllm chat {model}"]
    print_use(here / "run", model, here / "run" / "deploy" / "a b.gguf")
    assert use(capsys.readouterr().err)[0] == f"jmedllm deploy serve '{here}/run/deploy/a b.gguf'"


@pytest.mark.exhaustive
def test_the_plan_of_a_cpu_says_what_it_does_not_count(cli: Cli, here: Path) -> None:
    for machine, is_said in (((), True), (("--gpu", "24GiB"), False)):
        code, output, errors = cli("plan", "tune.yaml", *machine)
        assert code == 0 and ("because the C library keeps freed blocks" in " ".join(output.split())) == is_said, (
            errors
        )


@pytest.mark.parametrize(
    ("source", "command"),
    [
        ("igakuqa", "data get igakuqa"),
        ("medmcqa", "data get medmcqa --mirror MIRROR"),
        ("jmedbench", "data get jmedbench --allow-unverified"),
    ],
)
def test_the_command_that_fetches_a_source_has_the_options_it_needs(
    cli: Cli, here: Path, source: str, command: str
) -> None:
    code, _, errors = cli("data", "check", source, "--data", "none")
    assert code == 2 and f"checks failed: {source}; run: jmedllm {command} --data none" in errors


def test_the_next_command_of_an_export_names_its_tasks(cli: Cli, here: Path) -> None:
    code, _, errors = cli("export", "lm-eval", "--benchmark", "both.jsonl", "--output", "tasks")
    last = errors.splitlines()[-1]
    assert (
        code == 0
        and last.startswith("next:  lm_eval ")
        and last.endswith("--include_path tasks --tasks jmedllm_both_ja,jmedllm_both_en")
    )


def test_the_data_directory_is_named_only_where_it_is_read(
    cli: Cli, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli(*evaluation("ja.jsonl"))[0] == 0
    monkeypatch.setenv("JMEDLLM_DATA", "elsewhere")
    assert ending(cli("report", "out")[2]) == "eval --model MODEL --benchmark ja.jsonl --output DIR"
