"""Whole runs on bases whose weights are stored quantized: trained, merged and evaluated."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from conftest import Cli, build_tiny, write_questions
from jmedllm.models.loading import load_adapter, load_network
from quantized_models import KINDS, write_quantized

CPU = torch.device("cpu")
SAMPLES = "questions.ja.samples.jsonl"
RECIPE = """
name: mine
precision: {precision}
base: {{path: {base}, dequantize: {dequantize}}}
prompt: {{pack: plain}}
mpeft:
  instructions: [talk.jsonl]
  block_size: 512
  steps: 2
  batch_size: 1
  learning_rate: 1e-2
  adapter: {{r: 4, alpha: 8, targets: all-linear}}
eval: {{benchmarks: [questions.jsonl], selection: all, scorers: [likelihood]}}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with instructions, questions and a model that is wide enough for 4 bits."""
    (tmp_path / "talk.jsonl").write_text('{"instruction": "説明せよ。", "output": "ビタミンC"}\n', encoding="utf-8")
    write_questions(tmp_path / "questions.jsonl", count=2)
    build_tiny(tmp_path / "base", architecture="llama", hidden_size=64)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def quantized(here: Path, kind: str, *, dequantize: bool, precision: str = "bfloat16") -> dict[str, torch.Tensor]:
    """Write a quantized model and its recipe, and return the values of its weights."""
    text = RECIPE.format(base="source", dequantize=str(dequantize).lower(), precision=precision)
    (here / "mine.yaml").write_text(text, encoding="utf-8")
    return write_quantized(KINDS[kind], here / "base", here / "source")


def merge_record(here: Path) -> Any:
    return json.loads((here / "runs/mine/merge/model/jmedllm.json").read_text(encoding="utf-8"))


@pytest.mark.exhaustive
def test_a_dequantized_base_trains_merges_and_is_evaluated(cli: Cli, here: Path) -> None:
    meant = quantized(here, "FP8, tensor", dequantize=True)
    code, output, errors = cli("run", "mine.yaml", "--check")
    assert code == 0 and "dequantize checked: quantized weights, disk space" in output, errors
    assert not (here / "runs").exists()
    code, _, errors = cli("run", "mine.yaml")
    assert code == 0, errors
    assert "14 scales of activations or of the key-value cache are left out" in errors
    base = load_file(here / "runs/mine/base/model.safetensors")
    assert base.keys() == meant.keys() and all(torch.equal(base[name], meant[name].bfloat16()) for name in meant)
    merged = here / "runs/mine/merge/model"
    config = json.loads((merged / "config.json").read_text(encoding="utf-8"))
    assert config["dtype"] == "bfloat16" and "quantization_config" not in config
    assert {each.dtype for each in load_file(merged / "model.safetensors").values()} == {torch.bfloat16}
    network: Any = AutoModelForCausalLM.from_pretrained(here / "runs/mine/base", dtype=torch.float32)
    adapted = PeftModel.from_pretrained(network, str(here / "runs/mine/mpeft/adapter")).merge_and_unload()
    found = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).state_dict()
    for name, value in adapted.state_dict().items():
        assert torch.allclose(found[name], value, rtol=2**-8, atol=2e-4), name  # bfloat16 of both
    card = (here / "runs/mine/merge/MODEL_CARD.md").read_text(encoding="utf-8")
    assert "its quantized weights were loaded in bfloat16" in card
    results = {each.parent.name for each in (here / "runs/mine/eval").glob("*/questions.ja.json")}
    assert results == {"base", "mpeft"}
    _, output, errors = cli("run", "mine.yaml")
    assert "dequantize" in output + errors and merge_record(here)["divergence"]["nats"] < 0.01


def test_an_adapter_trains_on_weights_that_are_stored_in_4_bits(cli: Cli, here: Path) -> None:
    quantized(here, "NF4", dequantize=False)
    code, output, errors = cli("run", "mine.yaml")
    assert code == 0, output + errors
    network = load_network(here / "source", torch.bfloat16, CPU)
    assert sum(type(module).__name__ == "Linear4bit" for module in network.modules()) == 14
    trained = load_adapter(network, here / "runs/mine/mpeft/adapter", here / "source")
    merged: Any = AutoModelForCausalLM.from_pretrained(here / "runs/mine/merge/model", dtype=torch.bfloat16)
    ids = torch.arange(1, 33)[None]
    with torch.no_grad():
        here_logits, there = merged(ids).logits.float(), trained(ids).logits.float()
        start = load_network(here / "source", torch.bfloat16, CPU)(ids).logits.float()
    assert (here_logits - there).abs().max() < 0.1 * (start - there).abs().max()
    assert merge_record(here)["divergence"]["nats"] < 0.01
    assert not (here / "runs/mine/base").exists()


@pytest.mark.parametrize("kind", ["GPTQ", "FP8, blocks of 16"])
def test_eval_names_the_option_and_takes_it(kind: str, cli: Cli, here: Path) -> None:
    quantized(here, kind, dequantize=False)
    words = ("--benchmark", "questions.jsonl", "--selection", "all", "--scorer", "likelihood", "--prompt", "plain")
    code, _, errors = cli("eval", "--model", "source", *words, "--output", "refused")
    assert code == 2 and "load them in bfloat16 with --dequantize" in errors.splitlines()[-1]
    assert not (here / "refused").exists()
    for model, output, more in (("source", "direct", ["--dequantize"]), ("plain", "converted", [])):
        if model == "plain":
            assert cli("convert", "source", "--output", "plain", "--dtype", "bfloat16")[0] == 0
        code, _, errors = cli("eval", "--model", model, *words, "--output", output, *more)
        assert code == 0, errors
    direct, converted = (
        [json.loads(line)["log_probs"] for line in (here / each / SAMPLES).read_text(encoding="utf-8").splitlines()]
        for each in ("direct", "converted")
    )
    assert direct == converted and len(direct) == 2
    settings = json.loads((here / "direct" / "questions.ja.json").read_text(encoding="utf-8"))["settings"]
    assert settings["dequantized"] == "bfloat16"


def test_a_gguf_file_is_refused_with_the_command_that_converts_it(cli: Cli, here: Path) -> None:
    quantized(here, "GPTQ", dequantize=False)
    (here / "models").mkdir()
    (here / "models" / "a.gguf").write_bytes(b"GGUF")
    for path in ("models", "models/a.gguf"):
        text = (here / "mine.yaml").read_text(encoding="utf-8").replace("path: source", f"path: {path}")
        (here / "gguf.yaml").write_text(text, encoding="utf-8")
        for words in (("run", "gguf.yaml", "--check"), ("plan", "gguf.yaml", "--gpu", "24GiB")):
            code, _, errors = cli(*words)
            assert code == 2 and "jmedllm convert models/a.gguf --output DIRECTORY" in errors, errors


@pytest.mark.parametrize("words", [("run", "mine.yaml", "--check"), ("run", "mine.yaml"), ("plan", "mine.yaml")])
def test_plain_weights_are_not_dequantized(words: tuple[str, ...], cli: Cli, here: Path) -> None:
    text = RECIPE.format(base="base", dequantize="true", precision="bfloat16")
    (here / "mine.yaml").write_text(text, encoding="utf-8")
    code, _, errors = cli(*words)
    assert code == 2 and "its weights are not quantized; leave dequantize out" in errors, errors
    assert not (here / "runs" / "mine" / "base").exists()


def test_the_plan_counts_the_base_in_bfloat16(cli: Cli, here: Path) -> None:
    meant = quantized(here, "MXFP8", dequantize=True)
    code, output, errors = cli("plan", "mine.yaml", "--gpu", "24GiB", "--json")
    assert code == 0, errors
    found = json.loads(output)["dequantize"]
    assert found["disk"] == 2 * sum(value.numel() for value in meant.values())
    assert found["host"] > found["parts"][1]["host"] > 2 * max(value.numel() for value in meant.values())
    frozen = json.loads(output)["stages"][0]["as_configured"]["parts"][0]
    assert frozen["name"] == "base, bfloat16" and frozen["gpu"] == pytest.approx(found["disk"], rel=0.01)
