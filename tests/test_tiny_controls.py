"""The control `tiny` of a recipe runs from raw text to the page, on a model of the same class as the recipe's base."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from conftest import Cli

RECIPES = Path(__file__).parents[1] / "recipes"
CLASSES = {
    "gpt-oss-20b": "GptOssForCausalLM",
    "llama-3.3-swallow-70b": "LlamaForCausalLM",
    "medgemma-27b": "Gemma3ForConditionalGeneration",
    "qwen3-30b-a3b": "Qwen3MoeForCausalLM",
    "qwen3.5-35b-a3b": "Qwen3_5MoeForConditionalGeneration",
    "qwen3.5-9b": "Qwen3_5ForConditionalGeneration",
}

pytestmark = pytest.mark.exhaustive


@pytest.mark.parametrize("name", CLASSES)
def test_the_tiny_control_runs_to_the_page(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, errors = cli("run", RECIPES / f"{name}.yaml", "--control", "tiny")
    assert code == 0, errors
    run = tmp_path / "runs" / f"{name}.tiny"
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert [*manifest["stages"]] == manifest["enabled"]
    assert {"corpus", "mpeft", "merge", "eval", "report"} <= {*manifest["enabled"]}
    assert manifest["stages"]["merge"]["outputs"]["divergence"] < 1e-3
    assert (run / "report.html").stat().st_size > 10_000
    assert "demo ja" in output and "mpeft" in output
    base, merged = run / "base", run / "merge" / "model"
    written = json.loads((merged / "config.json").read_text(encoding="utf-8"))
    assert written["architectures"] == [CLASSES[name]]
    before, after = load_file(base / "model.safetensors"), load_file(merged / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    vision = {key for key in before if "visual" in key or "vision" in key or "multi_modal_projector" in key}
    assert changed and not changed & vision
    assert bool(vision) == ("ConditionalGeneration" in CLASSES[name])
