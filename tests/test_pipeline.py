"""Whole runs of a tiny recipe: what is skipped, what is redone, and what a kill does."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from conftest import Cli, write_questions
from fork_server import ForkServer
from jmedllm.errors import InputError
from jmedllm.models.folder import fingerprint
from jmedllm.pipeline import run_pipeline
from jmedllm.precision import choose_precision
from jmedllm.recipe_file import load_recipe
from jmedllm.report import collect
from jmedllm.stages import STAGES
from jmedllm.stages.stage import Run
from jmedllm.training.loss import LOGIT_CHANGES

RECIPE = """
name: tiny
precision: float32
base:
  random_init: {{vocabulary: 400, hidden_size: 32, layers: 2, feed_forward: 64, context: 512}}
prompt: {{pack: plain}}
corpus: {{inputs: [{folder}/corpus.jsonl], block_size: 32}}
mfpt: {{steps: {steps}, learning_rate: 3e-3, batch_size: 2, save_steps: 4}}
mpeft:
  questions: [{{benchmark: {folder}/train.jsonl, languages: [ja, en]}}]
  instructions: [{folder}/instructions.jsonl]
  replay: 0.2
  block_size: 256
  steps: 4
  learning_rate: 1e-3
  batch_size: 2
  adapter: {{r: 4, alpha: 8, dropout: 0.1}}
eval:
  benchmarks: [{folder}/exam.jsonl]
  selection: all
  max_new_tokens: 8
controls:
  other-rate: {{mpeft: {{learning_rate: 2e-3}}}}
"""


OTHERS = {
    "C": "K",
    "欠": "過",
    "乏": "剰",
    "壊": "溶",
    "血": "結",
    "脚": "頻",
    "気": "脈",
    "痛": "出",
    "夜": "難",
    "盲": "聴",
}
"""Makes other questions of those of the exam."""


def write_recipe(folder: Path, steps: int = 8) -> Path:
    lines = [
        f"第{i}項。ビタミン{i}の欠乏で病気{i}が起こる。Lack of vitamin {i} causes disease {i}." for i in range(20)
    ]
    rows = [json.dumps({"id": str(i), "text": line}, ensure_ascii=False) for i, line in enumerate(lines)]
    (folder / "corpus.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    exam = write_questions(folder / "exam.jsonl", count=4).read_text(encoding="utf-8")
    (folder / "train.jsonl").write_text(exam.translate(str.maketrans(OTHERS)), encoding="utf-8")
    task = {"instruction": "説明せよ。", "input": "壊血病", "output": "ビタミンCの欠乏。"}
    (folder / "instructions.jsonl").write_text(json.dumps(task, ensure_ascii=False) + "\n", encoding="utf-8")
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE.format(folder=folder, steps=steps), encoding="utf-8")
    return recipe


def run(
    recipe: Path, folder: Path, until: Any = "report", control: str | None = None, seed: int | None = None
) -> dict[str, str]:
    message: dict[str, str] = {}
    loaded = load_recipe(recipe, control=control, seed=seed)
    precision = choose_precision(loaded.precision, loaded.device)
    run_pipeline(
        STAGES.values(), Run(loaded, folder, precision, {}), until, lambda stage, what: message.update({stage: what})
    )
    left_out = {stage for stage, what in message.items() if what == "not in the recipe"}
    assert not left_out & {stage for stage in STAGES if STAGES[stage].enabled(loaded)}
    return {stage: what.split(" in ")[0] for stage, what in message.items() if stage not in left_out}


def manifest(folder: Path) -> dict[str, Any]:
    stages: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
    return {stage: entry["outputs"] for stage, entry in stages.items()}


def test_stages_are_skipped_and_redone_by_their_inputs(tmp_path: Path) -> None:
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    stages = ("corpus", "mfpt", "mpeft", "merge", "eval", "report")
    all_of, unchanged = (dict.fromkeys(stages, state) for state in ("done", "unchanged"))

    assert run(recipe, folder, until="mfpt") == {"corpus": "done", "mfpt": "done"}
    assert run(recipe, folder) == all_of | {"corpus": "unchanged", "mfpt": "unchanged"}
    first = manifest(folder)
    assert run(recipe, folder) == unchanged
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert report.startswith("# tiny\n\nBase with random weights, seed 0")
    assert re.search(r"^- mpeft: .*, mixture \(\S+ ja \d+", report, re.MULTILINE), report

    # What was trained is not thrown away for a change.
    with pytest.raises(InputError) as error:
        run(recipe, folder, control="other-rate")
    assert str(error.value) == (
        f"{folder}/mpeft was trained on other inputs (mpeft.learning_rate 0.001 → 0.002); "
        f"choose another --output, or remove {folder}/mpeft to train again"
    )
    assert run(recipe, folder) == unchanged

    # A change late in the way redoes what comes after it, and nothing before.
    shutil.rmtree(folder / "mpeft")
    late = run(recipe, folder, control="other-rate")
    assert late == all_of | {"corpus": "unchanged", "mfpt": "unchanged"}
    assert manifest(folder)["mpeft"]["adapter"] != first["mpeft"]["adapter"]
    # Back again, the same inputs give the same weights.
    shutil.rmtree(folder / "mpeft")
    run(recipe, folder)
    assert manifest(folder) == first

    # A change in the corpus redoes everything.
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(corpus.read_text(encoding="utf-8").replace("第3項", "第三項"), encoding="utf-8")
    with pytest.raises(InputError, match=r"run/mfpt was trained on other inputs \(base, blocks\); choose another"):
        run(recipe, folder)
    for stage in ("mfpt", "mpeft"):
        shutil.rmtree(folder / stage)
    assert run(recipe, folder) == all_of | {"corpus": "unchanged"}
    # A product that has gone missing is made again.
    (folder / "report.md").unlink()
    assert run(recipe, folder) == unchanged | {"report": "done"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mpeft": {"instructions": ["none.jsonl"]}}, "none.jsonl: no such file"),
        ({"mpeft": {"adapter": {"targets": ["q_prj"]}}}, "unknown adapter target 'q_prj': did you mean q_proj"),
        ({"mpeft": {"max_prompt_tokens": 1}}, "tokens, more than max_prompt_tokens 1; raise it"),
        ({"mpeft": {"weights": {"fr": 2.0}}}, "unknown source or language in weights 'fr'"),
        (
            {"mpeft": {"early_stopping": {"metric": ["bits_per_byte.jp"]}}},
            "unknown measure in metric 'bits_per_byte.jp'",
        ),
        ({"mfpt": {"weight_format": "bfloat16-master"}}, "set precision: bfloat16"),
        ({"eval": {"benchmarks": ["none.jsonl"]}}, "none.jsonl: no such file"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(next(iter(value.values()))),
)
def test_errors_of_a_late_stage_are_reported_before_the_first(
    tmp_path: Path, tiny_model: Path, changes: dict[str, Any], message: str
) -> None:
    values = yaml.safe_load(write_recipe(tmp_path).read_text(encoding="utf-8"))
    values |= {"base": {"path": str(tiny_model)}, "validation": {"held_out": 0.2}, "controls": {"broken": changes}}
    values["precision"] = "auto" if "mfpt" in changes else "float32"
    (tmp_path / "late.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(message)):
        run(tmp_path / "late.yaml", tmp_path / "run", control="broken")
    assert not (tmp_path / "run" / "corpus").exists()


def test_a_base_whose_loss_is_unknown_is_refused_before_the_first_stage(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(LOGIT_CHANGES, "final_logit_softcapping")
    base = shutil.copytree(tiny_model, tmp_path / "gemma2")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    values = {"model_type": "gemma2", "vocab_size": 320, "head_dim": 8, "final_logit_softcapping": 5.0} | sizes
    (base / "config.json").write_text(json.dumps(values), encoding="utf-8")
    recipe = yaml.safe_load(write_recipe(tmp_path).read_text(encoding="utf-8")) | {"base": {"path": str(base)}}
    (tmp_path / "packed.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    with pytest.raises(InputError, match="architecture 'gemma2' changes its logits after the head in an unknown way"):
        run(tmp_path / "packed.yaml", tmp_path / "run")
    assert not (tmp_path / "run" / "corpus").exists()


def test_a_disk_too_small_for_the_merge_is_reported_before_stage_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path)
    run(recipe, tmp_path / "run", until="mfpt")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=90_000))
    with pytest.raises(InputError, match=r"the merged model, as large as its base, needs 0\.\d\d MiB more on disk"):
        run(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "mpeft" / "checkpoints").exists()


def test_a_product_that_a_killed_stage_replaced_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    run(recipe, folder, until="corpus")
    weights = (folder / "base" / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("jmedllm.stages.corpus.save_blocks", None)  # dies behind the new base
        with pytest.raises(TypeError):
            run(recipe, folder, until="corpus", seed=1)
    assert (folder / "base" / "model.safetensors").read_bytes() != weights
    assert run(recipe, folder, until="corpus") == {"corpus": "done"}
    assert (folder / "base" / "model.safetensors").read_bytes() == weights


def test_folders_of_the_user_are_not_emptied(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "mine.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(InputError, match=r"corpus has files that jmedllm did not write; choose another"):
        run(recipe, tmp_path, until="corpus")
    assert (tmp_path / "corpus" / "mine.txt").read_text(encoding="utf-8") == "years of work"


def test_a_model_taken_off_the_recipe_leaves_the_report(tmp_path: Path) -> None:
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    run(recipe, folder)
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("selection: all", "selection: all\n  models: [mpeft]"), encoding="utf-8")
    run(recipe, folder)
    report = (folder / "report.md").read_text(encoding="utf-8")
    assert "| mpeft | exam | ja |" in report and "| base | exam |" not in report
    assert {each.result.model for each in collect([folder])} == {"mpeft"}


MFPT_ON_PAGE = re.compile(r"<h3>[^\n]*mfpt")


def test_a_stage_taken_off_the_recipe_leaves_card_and_page(tmp_path: Path) -> None:
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    run(recipe, folder)
    both = (folder / "merge" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| mfpt |" in both and MFPT_ON_PAGE.search((folder / "report.html").read_text(encoding="utf-8"))
    text = re.sub("mfpt: .*\n", "", recipe.read_text(encoding="utf-8"))
    recipe.write_text(text.replace("selection: all", "selection: all\n  models: [base, mpeft]"), encoding="utf-8")
    (folder / "mpeft").rename(tmp_path / "earlier")
    run(recipe, folder)
    card = (folder / "merge" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| mpeft |" in card and "mfpt" not in card
    assert not MFPT_ON_PAGE.search((folder / "report.html").read_text(encoding="utf-8"))


def test_the_card_changes_without_a_change_of_the_model(tmp_path: Path) -> None:
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    run(recipe, folder)
    cards = [folder / "merge" / name for name in ("MODEL_CARD.md", "model/README.md")]
    assert "MIT" not in cards[0].read_text(encoding="utf-8")
    made = manifest(folder)["merge"]["model"]
    corpus = tmp_path / "corpus.jsonl"
    licensed = corpus.read_text(encoding="utf-8").replace('"}', '", "license": "MIT"}')
    corpus.write_text(licensed, encoding="utf-8")
    text = recipe.read_text(encoding="utf-8").replace("name: tiny", "name: renamed")
    recipe.write_text(text + "merge: {accept_divergence: 0.02}\n", encoding="utf-8")
    message = run(recipe, folder)
    assert (message["mfpt"], message["merge"], message["report"]) == ("unchanged", "unchanged", "done")
    for card in (each.read_text(encoding="utf-8") for each in cards):
        assert "\n---\n\n# renamed\n" in card and "| MIT |" in card and "accept_divergence: 0.02" in card
    assert fingerprint(folder / "merge" / "model") == made
    assert run(recipe, folder)["report"] == "unchanged"


def test_another_benchmark_leaves_the_records_there_are(tmp_path: Path) -> None:
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    run(recipe, folder)
    records = folder / "eval" / "mpeft" / "exam.ja.samples.jsonl"
    before = records.stat().st_mtime_ns
    write_questions(tmp_path / "second.jsonl", count=2)
    one, two = f"[{tmp_path}/exam.jsonl]", f"[{tmp_path}/exam.jsonl, {tmp_path}/second.jsonl]"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace(f"benchmarks: {one}", f"benchmarks: {two}"), encoding="utf-8")
    run(recipe, folder)
    assert records.stat().st_mtime_ns == before
    assert {each.result.settings["benchmark"] for each in collect([folder])} == {"exam", "second"}
    # With other settings a task is evaluated again; a task that the recipe no longer names is not in the report.
    recipe.write_text(text.replace("max_new_tokens: 8", "max_new_tokens: 9"), encoding="utf-8")
    run(recipe, folder)
    assert records.stat().st_mtime_ns != before
    assert {each.result.settings["benchmark"] for each in collect([folder])} == {"exam"}


@pytest.mark.exhaustive
def test_runs_with_other_seeds_have_separate_folders(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    names = [load_recipe(recipe, seed=seed).name for seed in (None, 1)]
    assert names == ["tiny", "tiny.seed1"]
    for seed, name in zip((None, 1), names, strict=True):
        run(recipe, tmp_path / "runs" / name, seed=seed)
    together = collect([tmp_path / "runs" / name for name in names])
    assert [each.result.model for each in together if each.result.settings["language"] == "ja"] == [
        f"{model} ({name}/eval/{model})" for model in ("base", "mfpt", "mpeft") for name in names
    ]


@pytest.mark.exhaustive
def test_a_fresh_process_saves_the_same_model(tmp_path: Path, forks: ForkServer) -> None:
    # What transformers had loaded before, and how, must not get into the files.
    recipe = write_recipe(tmp_path)
    run(recipe, tmp_path / "one", until="merge")
    command = ("-m", "jmedllm", "run", recipe, "--output", tmp_path / "two", "--until")
    assert forks.run(*command, "mfpt").returncode == 0
    subprocess.run([sys.executable, *command, "merge"], check=True, capture_output=True)
    assert manifest(tmp_path / "two") == manifest(tmp_path / "one")


def test_a_product_that_lost_a_file_is_made_again(tmp_path: Path) -> None:
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    run(recipe, folder, until="merge")
    first = manifest(folder)
    (folder / "merge" / "model" / "model.safetensors").unlink()
    message = run(recipe, folder, until="merge")
    assert (message["mpeft"], message["merge"]) == ("unchanged", "done")
    assert manifest(folder) == first


def test_a_run_that_is_scored_again_is_reported_again(cli: Cli, tmp_path: Path) -> None:
    def differences() -> list[str]:
        report = (folder / "report.md").read_text(encoding="utf-8")
        return [line for line in report.splitlines() if " against base: " in line]

    recipe, folder = write_recipe(tmp_path, steps=4), tmp_path / "run"
    text = recipe.read_text(encoding="utf-8").replace(
        "selection: all", "selection: all\n  scorers: [legacy, likelihood]"
    )
    recipe.write_text(text, encoding="utf-8")
    run(recipe, folder)
    before = differences()
    code, _, errors = cli("score", folder, "--scorer", "answer")
    assert code == 0 and f"next:  jmedllm report {folder}" in errors
    message = run(recipe, folder)
    assert (message["eval"], message["report"]) == ("unchanged", "done")
    assert "| answer |" in (folder / "report.md").read_text(encoding="utf-8")
    assert differences() == before != []  # still by likelihood, a scorer of the recipe


def test_score_in_a_run_without_an_evaluation_proposes_to_go_on(cli: Cli, tmp_path: Path) -> None:
    recipe, folder = write_recipe(tmp_path, steps=4), tmp_path / "run"
    run(recipe, folder, until="eval")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["stages"]["eval"]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    _, _, errors = cli("score", folder)
    assert f"next:  jmedllm run RECIPE.yaml --output {folder}" in errors


def test_a_folder_that_is_a_link_stays_one(tmp_path: Path) -> None:
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    (tmp_path / "large disk").mkdir()
    folder.mkdir()
    (folder / "mfpt").symlink_to(tmp_path / "large disk")
    run(recipe, folder, until="mfpt")
    shutil.rmtree(tmp_path / "large disk" / "model")
    shutil.rmtree(tmp_path / "large disk" / "checkpoints")
    run(recipe, folder, until="mfpt", seed=1)
    assert (folder / "mfpt").is_symlink()
    assert (tmp_path / "large disk" / "model" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("manifest.json", '{"name": "webapp"}', "was not written by jmedllm"),
        ("manifest.json", '{"stages": {}}', "was written by another version of jmedllm"),
        ("report.md", "mine", "was not written by jmedllm"),
        ("report.html", "mine", "was not written by jmedllm"),
    ],
)
def test_a_directory_without_a_run_is_refused(tmp_path: Path, name: str, content: str, problem: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=f"{name}:? {problem}; choose another --output"):
        run(write_recipe(tmp_path), tmp_path)
    assert (tmp_path / name).read_text(encoding="utf-8") == content


def test_an_adapter_is_loaded_by_its_folder_alone(tmp_path: Path) -> None:
    run(write_recipe(tmp_path), tmp_path / "run", until="mpeft")
    from peft import AutoPeftModelForCausalLM

    network = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path / "run" / "mpeft" / "adapter"))
    assert network.peft_config["default"].r == 4


def test_settings_that_the_input_hash_leaves_out_are_recorded(tmp_path: Path) -> None:
    run(write_recipe(tmp_path), tmp_path / "run", until="mfpt")
    stages = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))["stages"]
    left_out = ("save_steps", "micro_batch_size", "activation_checkpointing")
    assert [stages["mfpt"]["recipe"]["mfpt"][name] for name in left_out] == [4, 1, "none"]


@pytest.mark.exhaustive
def test_a_merged_model_loads_by_transformers_alone(tmp_path: Path, forks: ForkServer) -> None:
    run(write_recipe(tmp_path), tmp_path / "run", until="merge")
    code = (
        "import sys; from transformers import AutoModelForCausalLM, AutoTokenizer; f = sys.argv[1];"
        "t = AutoTokenizer.from_pretrained(f); m = AutoModelForCausalLM.from_pretrained(f);"
        "print(t.decode(m.generate(**t('ビタミン', return_tensors='pt'), max_new_tokens=4)[0]))"
    )
    model = tmp_path / "run" / "merge" / "model"
    loaded = forks.run("-c", code, model)
    assert loaded.returncode == 0 and loaded.stdout.startswith("ビタミン"), loaded.stderr


@pytest.mark.parametrize("line", [pytest.param(2, marks=pytest.mark.exhaustive), 9])
def test_kill_9_in_stage_1_changes_nothing_in_the_end(tmp_path: Path, forks: ForkServer, line: int) -> None:
    recipe = write_recipe(tmp_path, steps=60)
    run(recipe, tmp_path / "whole", until="mfpt")
    process = forks.start("-m", "jmedllm", "pretrain", recipe, "--output", tmp_path / "killed")
    metrics = tmp_path / "killed" / "mfpt" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and len(metrics.read_bytes().splitlines()) >= line):
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it was killed"
        time.sleep(0.002)
    process.kill()
    assert "mfpt" not in manifest(tmp_path / "killed")
    run(recipe, tmp_path / "killed", until="mfpt")
    assert manifest(tmp_path / "killed")["mfpt"] == manifest(tmp_path / "whole")["mfpt"]
    losses = [
        [json.loads(row)["loss"] for row in (tmp_path / name / "mfpt" / "metrics.jsonl").open()]
        for name in ("whole", "killed")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 60
