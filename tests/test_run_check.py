"""`jmedllm run --check` refuses what a run would refuse, writes nothing, and says what it checked."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from conftest import Cli, write_questions
from jmedllm.locks import locked
from jmedllm.named_server import KEY_ENV
from jmedllm.run_state import _differing
from jmedllm.training.examples import filter_by_length
from jmedllm.training.packing import TrainingSample

TRAINING = (
    "mpeft: {instructions: [talk.jsonl], block_size: 512, steps: 2, learning_rate: 1e-4, adapter: {targets: [%s]}}\n"
)
EVALUATION = "eval: {benchmarks: [questions.jsonl], selection: all, models: [base], %s}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a file of instructions and one of questions."""
    (tmp_path / "talk.jsonl").write_text('{"instruction": "説明せよ。", "output": "ビタミンC"}\n', encoding="utf-8")
    write_questions(tmp_path / "questions.jsonl", count=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(here: Path, base: Path | str, text: str) -> Path:
    recipe = here / "mine.yaml"
    recipe.write_text(f"name: mine\nbase: {{path: {base}}}\nprompt: {{pack: plain}}\n{text}", encoding="utf-8")
    return recipe


def test_each_stage_has_a_line_and_nothing_is_written(cli: Cli, here: Path, tiny_model: Path) -> None:
    text = TRAINING % "q_proj" + "eval: {benchmarks: [questions.jsonl], selection: all}\n"
    code, output, errors = cli("run", write(here, tiny_model, text), "--check")
    assert code == 0, errors
    assert [line.split()[0] for line in output.splitlines()[:-1]] == ["mpeft", "merge", "eval", "report"]
    assert "chat template, lengths of the examples" in output and "adapter targets" in output
    assert errors.splitlines()[-1].startswith("next:  jmedllm run ")
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("stored", "expected", "said"),
    [
        (None, 2, "has no generation_config.json; give values"),
        ("{}", 2, "2 samples of greedy decoding are the same response"),
        (
            '{"do_sample": true, "temperature": 0.8, "num_beams": 2}',
            0,
            "temperature 0.8, seed 5, as generation_config.json recommends. Ignored of it: num beams 2",
        ),
    ],
)
def test_recommended_decoding_is_that_of_the_base(
    cli: Cli, here: Path, tiny_model: Path, stored: str | None, expected: int, said: str
) -> None:
    base = copytree(tiny_model, here / "base")
    (base / "generation_config.json").unlink(missing_ok=True)
    if stored is not None:
        (base / "generation_config.json").write_text(stored)
    decoding = "scorers: [answer], decoding: {recommended: true, samples: 2, seed: 5}"
    code, _, errors = cli("run", write(here, base, EVALUATION % decoding), "--check")
    assert code == expected and said in errors


def test_a_base_that_is_not_here_is_named(cli: Cli, here: Path) -> None:
    code, output, _ = cli("run", write(here, "org/nowhere", TRAINING % "q_proj"), "--check")
    assert code == 0 and "Base org/nowhere is not on this machine" in output


def test_a_base_that_is_not_here_is_checked_by_its_published_config(cli: Cli, here: Path) -> None:
    text = TRAINING % "q_proj, gate_proj" + "eval: {benchmarks: [questions.jsonl], selection: all}\n"
    code, output, errors = cli("run", write(here, "Qwen/Qwen2-7B-Instruct", text), "--check")
    assert code == 0, errors
    assert "checked: settings, examples, architecture, context" in output and "checked: adapter targets" in output
    assert output.splitlines()[-1].endswith(
        "valid as far as checked. Base Qwen/Qwen2-7B-Instruct is not on this machine. Checked with its published "
        "config, which comes with jmedllm (https://huggingface.co/Qwen/Qwen2-7B-Instruct/blob/main/config.json); "
        "not checked: "
        "tokenizer, chat template, tensors, lengths of examples and prompts, and disk space for the weights"
    )
    assert "mpeft: the adapter adapts 30% of all weights and leaves frozen" in errors
    assert not (here / "runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("q_proj", "q_prj", "unknown adapter target 'q_prj': did you mean q_proj"),
        (
            "block_size: 512",
            "block_size: 65536",
            "block_size 65536 is longer than the context of the base model",
        ),
    ],
)
def test_a_published_config_refuses_what_its_base_would(
    cli: Cli, here: Path, old: str, new: str, problem: str
) -> None:
    recipe = write(here, "Qwen/Qwen2-7B-Instruct", (TRAINING % "q_proj").replace(old, new))
    code, _, errors = cli("run", recipe, "--check")
    assert code == 2 and problem in errors.splitlines()[-1], errors


def test_a_machine_that_is_too_small_is_only_named_if_the_base_is_elsewhere(cli: Cli, here: Path) -> None:
    recipe = write(here, "meta-llama/Llama-2-70b-hf", TRAINING % "q_proj")
    recipe.write_text("memory: auto\nprecision: float32\n" + recipe.read_text(encoding="utf-8"), encoding="utf-8")
    code, output, errors = cli("run", recipe, "--check")
    assert code == 0, errors
    assert "on this machine: memory: auto: mpeft does not fit this machine's CPU with " in output


@pytest.mark.parametrize(
    "base", ["/nowhere/model", "./nowhere", "../nowhere", "~/nowhere", "models/tiny/old", "nowhere"]
)
def test_a_base_that_can_only_be_a_path_is_refused(cli: Cli, here: Path, base: str) -> None:
    code, _, errors = cli("run", write(here, base, TRAINING % "q_proj"), "--check")
    assert code == 2 and f"model '{base}': no such directory" in errors
    assert ("~ is not expanded" in errors) == base.startswith("~")


@pytest.mark.parametrize(
    ("text", "missing", "problem"),
    [
        (
            TRAINING % "q_proj",
            "talk.jsonl",
            "mpeft.instructions.0: talk.jsonl: no such file; did you mean talks.jsonl?",
        ),
        (
            "eval:\n  selection: all\n  benchmarks: ['questions.jsonl:ja']\n",
            "questions.jsonl",
            "eval.benchmarks.0: questions.jsonl: no such file; did you mean questionss.jsonl?",
        ),
        (
            "corpus: {inputs: [notes.txt]}\nmfpt: {steps: 1, learning_rate: 1e-3}\n",
            "notes.txt",
            "corpus.inputs.0: corpus notes.txt: no such file or folder; did you mean notess.txt?",
        ),
    ],
    ids=["instructions", "a file with a language", "corpus"],
)
def test_a_missing_file_is_named_with_its_place_in_the_recipe(
    cli: Cli, here: Path, tiny_model: Path, text: str, missing: str, problem: str
) -> None:
    (here / "notes.txt").write_text("scurvy", encoding="utf-8")
    file = here / missing
    file.rename(file.with_stem(f"{file.stem}s"))
    recipe = write(here, tiny_model, text)
    number = next(n for n, line in enumerate(recipe.read_text(encoding="utf-8").splitlines(), 1) if missing in line)
    for words in (("--check",), ()):
        code, _, errors = cli("run", recipe, *words)
        assert (code, errors.splitlines()[-1]) == (2, f"error: {recipe}:{number}: {problem}")


def test_a_missing_base_is_named_with_its_place_in_the_recipe(cli: Cli, here: Path) -> None:
    (here / "models").mkdir()
    recipe = write(here, "./model", TRAINING % "q_proj")
    _, _, errors = cli("run", recipe, "--check")
    assert f"{recipe}:2: base.path: model './model': no such directory; did you mean models?" in errors
    _, _, errors = cli("plan", recipe, "--gpu", "24GiB")
    assert f"{recipe}:2: base.path: base ./model: no such directory; give a directory with the model's" in errors


def test_a_run_directory_in_use_is_refused(cli: Cli, here: Path, tiny_model: Path) -> None:
    recipe = write(here, tiny_model, TRAINING % "q_proj")
    with locked(here / "runs" / "mine"):
        code, _, errors = cli("run", recipe, "--check")
    assert code == 2 and "is in use by another jmedllm process; choose another --output" in errors
    assert cli("run", recipe, "--check")[0] == 0


def test_an_earlier_run_in_the_directory_is_compared(cli: Cli, here: Path, tiny_model: Path) -> None:
    def compared(text: str) -> dict[str, str]:
        code, output, errors = cli("run", write(here, tiny_model, text), "--check")
        assert code == 0, errors
        _, _, rest = output.partition("runs/mine has an earlier run. A run in it does this:\n")
        return {line[:7].strip(): line[8:] for line in rest.splitlines()[:-1]}

    evaluation = "eval: {benchmarks: [questions.jsonl], selection: all, scorers: [likelihood]}\n"
    text = TRAINING % "q_proj" + evaluation
    stages = ("mpeft", "merge", "eval", "report")
    assert compared(text) == {}
    assert cli("tune", here / "mine.yaml")[0] == 0
    assert compared(text) == {"mpeft": "unchanged"} | dict.fromkeys(stages[1:], "runs")
    code, _, errors = cli("run", here / "mine.yaml")
    [wrote] = [line for line in errors.splitlines() if line.startswith("wrote: ")]
    assert code == 0 and wrote.endswith("report.md, runs/mine/merge/model, runs/mine/merge/MODEL_CARD.md")
    assert all(Path(each).exists() for each in wrote.removeprefix("wrote: ").split(", "))
    assert compared(text) == dict.fromkeys(stages, "unchanged")
    changed = "runs again (eval.limit None → 1)"
    limited = text.replace("all, ", "all, limit: 1, ")
    assert compared(limited) == dict.fromkeys(stages, "unchanged") | {"eval": changed, "report": changed}
    (here / "runs" / "mine" / "merge" / "model" / "config.json").unlink()
    assert compared(text) == {"mpeft": "unchanged", "merge": "runs again (files are missing)"} | dict.fromkeys(
        ("eval", "report"), "runs"
    )
    for old, new, difference in (
        ("steps: 2", "steps: 3", "mpeft.steps 2 → 3"),
        ("mpeft:", "seed: 1\nmpeft:", "seed 0 → 1"),
    ):
        code, output, errors = cli("run", write(here, tiny_model, text.replace(old, new)), "--check")
        assert (code, output) == (2, "") and f"mpeft was trained on other inputs ({difference}); choose" in errors
        assert "or remove runs/mine/mpeft to train again" in errors


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no stage is enabled; add one of the sections canary, corpus, mpeft, eval"),
        (TRAINING % "q_prj", "unknown adapter target 'q_prj'"),
        (TRAINING.replace("talk", "none") % "q_proj", "none.jsonl"),
        ("eval: {benchmarks: [none.jsonl]}\n", "none.jsonl: no such file"),
        (TRAINING.replace("512", "100000") % "q_proj", "mpeft: block_size 100000 is longer than the context"),
        ("corpus: {inputs: [empty]}\nmfpt: {steps: 1, learning_rate: 1e-3}\n", "corpus empty: contains no text; give"),
        (EVALUATION % "max_new_tokens: 600", "prompt and 600 new tokens need 6"),
        (EVALUATION % "judge: 'http://127.0.0.1:9/v1#x'", "no key for http://127.0.0.1:9/v1: set JMEDLLM_API_KEY"),
        (TRAINING.replace("512", "8") % "q_proj", "more than block_size 8; raise it"),
        (
            TRAINING.replace("512", "8, excess_length_strategy: drop") % "q_proj",
            "more than block_size 8; every example is too long",
        ),
    ],
    ids=[
        "nothing to do", "adapter target", "instructions", "benchmark", "rows beyond the context",
        "corpus without text", "prompts beyond the context", "judge without a key",
        "a long example", "only long examples",
    ],
)  # fmt: skip
def test_what_a_run_would_refuse(
    cli: Cli, here: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str
) -> None:
    monkeypatch.delenv(KEY_ENV, raising=False)
    (here / "empty").mkdir()
    (here / "empty" / "blank.txt").write_text("\n\n", encoding="utf-8")
    code, _, errors = cli("run", write(here, tiny_model, text), "--check")
    assert code == 2 and problem in errors


def test_a_setting_of_the_chat_template_that_nothing_uses(cli: Cli, here: Path, tiny_model: Path) -> None:
    recipe = write(here, tiny_model, TRAINING % "q_proj")
    given = recipe.read_text(encoding="utf-8").replace("plain}", "plain, date: 2026-01-01}")
    recipe.write_text(given, encoding="utf-8")
    code, _, errors = cli("run", recipe, "--check")
    assert code == 2 and "prompt.date shapes the chat template, which no example uses; set prompt.chat" in errors


def test_long_examples_that_are_dropped(cli: Cli, here: Path, tiny_model: Path) -> None:
    with (here / "talk.jsonl").open("a", encoding="utf-8") as handle:
        handle.write('{"instruction": "%s", "output": "ビタミンC"}\n' % ("長" * 1000))
    text = TRAINING.replace("512", "200, excess_length_strategy: drop") % "q_proj"
    assert cli("run", write(here, tiny_model, text), "--check")[0] == 0
    text = TRAINING.replace("512", "200") % "q_proj"
    code, _, errors = cli("run", write(here, tiny_model, text), "--check")
    assert code == 2 and "talk.jsonl:2" in errors and "more than block_size 200" in errors


def test_a_conversation_is_refused_beside_an_example_that_fits(cli: Cli, here: Path, tiny_model: Path) -> None:
    turns = [{"role": "user", "content": "長" * 1000}, {"role": "assistant", "content": "はい"}]
    with (here / "talk.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
    text = TRAINING.replace("512", "200, excess_length_strategy: drop") % "q_proj"
    code, _, errors = cli("run", write(here, tiny_model, text), "--check")
    assert code == 2 and "talk.jsonl:2" in errors and "chat template" in errors


def test_of_long_examples_that_are_dropped_one_that_fits_is_enough(
    cli: Cli, here: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []

    def note(samples: Iterable[TrainingSample], *rest: Any) -> Iterator[TrainingSample]:
        for sample in filter_by_length(samples, *rest):
            encoded.append(sample.name)
            yield sample

    monkeypatch.setattr("jmedllm.stages.examples.filter_by_length", note)
    write_questions(here / "train.jsonl", count=5)
    text = "mpeft: {questions: [{benchmark: train.jsonl, languages: [en]}], steps: 2, learning_rate: 1e-4, "
    text += "block_size: 70, excess_length_strategy: drop, adapter: {targets: [q_proj]}}\n"
    assert cli("run", write(here, tiny_model, text), "--check")[0] == 0
    assert len(encoded) == 1


def test_an_output_that_is_a_file(cli: Cli, here: Path, tiny_model: Path) -> None:
    recipe = write(here, tiny_model, TRAINING % "q_proj")
    code, _, errors = cli("run", recipe, "--check", "--output", here / "talk.jsonl")
    assert code == 2 and "talk.jsonl: is a file; choose another --output" in errors


def test_a_change_of_several_lines_is_only_named() -> None:
    old, new = {"closing": None, "steps": 1}, {"closing": "</think>\n\n", "steps": 2}
    assert _differing(old, new) == [("closing", ""), ("steps", "1 → 2")]
