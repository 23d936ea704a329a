"""The table in docs/architectures.md: what runs from raw text to scores on a tiny model of each class."""

import json
from pathlib import Path
from typing import Any

import pytest
import ranks
import torch
from bases import BASES
from safetensors.torch import load_file

from conftest import Cli, write_questions
from fork_server import ForkServer
from jmedllm.models.folder import fingerprint
from jmedllm.models.loading import read_config
from jmedllm.pipeline import run_pipeline
from jmedllm.precision import choose_precision
from jmedllm.recipe_file import load_recipe
from jmedllm.stages import STAGES
from jmedllm.stages.stage import Run
from jmedllm.training.trainable import choose_isolation
from tiny_classes import build_class

DOCS = Path(__file__).parents[2] / "docs" / "architectures.md"

HEAD = """
name: tiny
precision: float32
base: {{path: {base}}}
prompt: {{pack: plain}}
"""
MFPT = """
corpus: {{inputs: [{folder}/corpus.jsonl], block_size: 48}}
mfpt: {{steps: 2, learning_rate: 3e-3, batch_size: 2}}
"""
MPEFT = """
mpeft:
  instructions: [{folder}/instructions.jsonl]
  block_size: 128
  steps: 2
  learning_rate: 1e-2
  batch_size: 2
  adapter: {{r: 4, alpha: 8, quantization: {quantization}}}
eval: {{benchmarks: [{folder}/exam.jsonl], selection: all, scorers: [likelihood]}}
"""


def recipe(name: str, text: str, folder: Path, **values: object) -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text.format(folder=folder, base=folder / "base", **values), encoding="utf-8")
    return path


def run(path: Path, folder: Path, until: str) -> dict[str, Any]:
    """The outputs of the stages in the manifest."""
    loaded = load_recipe(path)
    precision = choose_precision(loaded.precision, loaded.device)
    run_pipeline(STAGES.values(), Run(loaded, folder, precision, {}), until, lambda *_: None)
    stages: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
    return {stage: entry["outputs"] for stage, entry in stages.items()}


def divergence(folder: Path) -> float:
    record = json.loads((folder / "merge" / "model" / "jmedllm.json").read_text(encoding="utf-8"))["divergence"]
    assert record["tokens"] > 100
    return float(record["nats"])


def in_two_processes(folder: Path, forks: ForkServer) -> str:
    ranks.main(folder / "base", folder / "one")
    ended = forks.run_ranks(2, Path(ranks.__file__), folder / "base", folder / "two")
    if "isolated by computing each sample in a row of its own" in ended[0].stderr:
        return "no: each sample needs a row of its own"
    assert not ended[0].returncode, ended[0].stderr
    for way in ranks.WAYS:
        one, two = (load_file(folder / count / way / "weights.safetensors") for count in ("one", "two"))
        assert one.keys() == two.keys()
        torch.testing.assert_close(two, one, rtol=1e-4, atol=2e-6)
    return "yes"


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", BASES)
def test_the_row_in_the_docs(kind: str, tiny_model: Path, tmp_path: Path, cli: Cli, forks: ForkServer) -> None:
    name, values = BASES[kind]
    base = build_class(name, tiny_model, tmp_path / "base", values)
    texts = [
        {"id": str(i), "text": f"第{i}項。ビタミン{i}の欠乏で病気{i}が起こる。Lack of vitamin {i}."} for i in range(20)
    ]
    tasks = [{"instruction": "説明せよ。", "input": f"壊血病{i}", "output": "ビタミンCの欠乏。"} for i in range(8)]
    for file, lines in (("corpus", texts), ("instructions", tasks)):
        rows = (json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (tmp_path / f"{file}.jsonl").write_text("".join(rows), encoding="utf-8")
    write_questions(tmp_path / "exam.jsonl", count=4)
    whole = recipe("whole", HEAD + MFPT + MPEFT, tmp_path, quantization="none")

    done = run(whole, tmp_path / "whole", "eval")
    assert done["mfpt"]["steps"] == done["mpeft"]["steps"] == 2
    assert divergence(tmp_path / "whole") <= 1e-6
    assert len({fingerprint(tmp_path / "whole" / stage / "model") for stage in ("mfpt", "merge")}) == 2
    run(recipe("nf4", HEAD + MPEFT, tmp_path, quantization="nf4"), tmp_path / "nf4", "merge")
    assert divergence(tmp_path / "nf4") <= 1e-3
    code, planned, errors = cli("plan", whole, "--gpu", "24GiB", "--ram", "64GiB", "--json")
    assert code == 0, errors
    assert {stage["stage"] for stage in json.loads(planned)["stages"]} == {"mfpt", "mpeft"}

    isolated = choose_isolation(read_config(base), torch.device("cpu"))
    row = [f"`{kind}`", isolated.replace("_", " "), *["yes"] * 6, in_two_processes(tmp_path, forks)]
    assert f"| {' | '.join(row)} |" in DOCS.read_text(encoding="utf-8")


def test_the_docs_have_no_other_rows() -> None:
    rows = [line.split("`")[1] for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| `")][1:]
    assert rows == list(BASES)
