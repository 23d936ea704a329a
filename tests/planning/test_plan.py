"""A plan says what the real step holds, and what would make it fit."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from jmedllm.cli import main
from jmedllm.errors import InputError
from jmedllm.planning.machine import GIB, Gpu, Machine, Rates
from jmedllm.planning.plan import NF4, Advice, plan
from jmedllm.planning.shape import structure
from jmedllm.planning.tracing import measure_step, trace_step
from jmedllm.precision import Precision
from jmedllm.recipe import Recipe
from jmedllm.training.adapter import Adapter, add_adapter
from jmedllm.training.optimization import Optimization
from jmedllm.training.weights import in_format

SMALL = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 1000}
GATED = SMALL | {"intermediate_size": 256, "num_key_value_heads": 2, "tie_word_embeddings": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2": GATED | {"tie_word_embeddings": True},
    "qwen3": GATED | {"head_dim": 32},
    "llama": GATED,
    "mistral": GATED,
    "gemma": GATED | {"head_dim": 32, "tie_word_embeddings": True},
    "gpt_neox": SMALL | {"intermediate_size": 512},
}
BFLOAT16 = Precision(torch.device("cpu"), torch.bfloat16, "tested")
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "recomputed": {"activations": "recompute"},
    "master copies": {"activations": "recompute", "weight_format": "bfloat16-master"},
    "8 bits": {"activations": "recompute", "optimizer": "adamw-8bit"},
}


def config(architecture: str) -> dict[str, Any]:
    return {"model_type": architecture} | CONFIGS[architecture]


def real(architecture: str, dtype: torch.dtype = torch.float32) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config(architecture)), dtype=dtype)


@pytest.mark.parametrize(
    ("architecture", "name"), [*((each, "as it is") for each in CONFIGS), *(("qwen2", each) for each in SETTINGS)]
)
def test_a_step_without_contents_holds_what_a_real_one_does(architecture: str, name: str) -> None:
    settings = Optimization(steps=1, learning_rate=1e-3, micro_batch=2, **SETTINGS[name])
    measured = measure_step(in_format(real(architecture), settings.weight_format), settings, BFLOAT16, 256)
    network = in_format(structure(config(architecture), "small", torch.float32), settings.weight_format)
    planned = trace_step(network, settings, BFLOAT16, 256)
    for exact in ("frozen", "trained", "gradients", "state"):
        assert getattr(planned, exact) == getattr(measured, exact)
    assert planned.held == pytest.approx(measured.held, rel=0.1)
    assert planned.working == pytest.approx(measured.working, rel=0.1)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_an_adapter_without_contents_is_as_large_as_a_real_one(kind: Any) -> None:
    settings, adapter = Optimization(steps=1, learning_rate=1e-3), Adapter(kind=kind, r=8, alpha=8)
    measured = measure_step(add_adapter(real("llama", torch.bfloat16), adapter, 0), settings, BFLOAT16, 128)
    with torch.device("meta"):
        network = add_adapter(structure(config("llama"), "small", torch.bfloat16), adapter, 0)
    planned = trace_step(network, settings, BFLOAT16, 128)
    assert (planned.frozen, planned.trained, planned.state) == (measured.frozen, measured.trained, measured.state)
    assert planned.working == pytest.approx(measured.working, rel=0.1)


def test_weights_in_4_bits_are_as_large_as_bitsandbytes_makes_them() -> None:
    import bitsandbytes

    library: Any = bitsandbytes
    weight = library.nn.Params4bit(
        torch.zeros(1024, 2048), requires_grad=False, quant_type="nf4", compress_statistics=True
    ).to("cpu")
    state = weight.quant_state
    size = weight.data.nbytes + state.absmax.nbytes + state.state2.absmax.nbytes
    assert size / (1024 * 2048) == pytest.approx(NF4, rel=1e-3)


def recipe(folder: Path, **changes: Any) -> Recipe:
    (folder / "base").mkdir(exist_ok=True)
    (folder / "base" / "config.json").write_text(json.dumps(config("llama")), encoding="utf-8")
    values = {
        "name": "small",
        "base": {"path": str(folder / "base")},
        "corpus": {"inputs": ["demo"], "block_size": 128},
        "mfpt": {"steps": 100, "learning_rate": 1e-3, "batch": 4, "micro_batch": 4},
        "mpeft": {
            "questions": [{"benchmark": "demo", "languages": ["ja"]}],
            "epochs": 1,
            "learning_rate": 1e-3,
            "block_size": 128,
        },
    }
    return Recipe.model_validate(values | changes)


def on(memory: int, processes: int = 1) -> Machine:
    gpu = Gpu("toy", memory, Rates(1e12, 1e11, 1e10))
    return Machine(gpu, processes, 1, 8 * GIB)


def settings_of(advice: Advice) -> list[str]:
    return [change.setting for change in advice.changes]


def test_what_does_not_fit_is_told_what_to_change_in_order_of_cost(tmp_path: Path) -> None:
    [first, second] = plan(recipe(tmp_path), on(80 * GIB))
    assert (first.planned.stage, second.planned.stage) == ("mfpt", "mpeft")
    assert settings_of(first) == settings_of(second) == []
    assert first.planned.tokens == 100 * 4 * 128 and second.planned.tokens is None
    [tight, _] = plan(recipe(tmp_path), on(first.planned.gpu - 1))
    assert settings_of(tight) == ["activations: recompute"]
    assert tight.changed.fits(on(first.planned.gpu - 1))
    [never, _] = plan(recipe(tmp_path), on(1))
    assert settings_of(never)[:3] == ["activations: recompute", "micro_batch: 1", "optimizer: adamw-8bit"]
    assert "adapter.quantization: nf4" not in settings_of(never)
    assert not never.changed.fits(on(1))


def test_shards_are_shared_and_what_they_refuse_is_not_advised(tmp_path: Path) -> None:
    [one, _], [four, _] = plan(recipe(tmp_path), on(1)), plan(recipe(tmp_path), on(1, 4))
    held = {part.name: part.gpu for part in one.planned.parts}
    for part in four.planned.parts:
        if part.name.startswith(("weights", "gradients", "optimizer")):
            assert part.gpu == held[part.name] // 4
    assert not {"optimizer: adamw-8bit", "weight_format: bfloat16-stochastic"} & set(settings_of(four))


def test_what_a_run_would_refuse_is_not_advised(tmp_path: Path) -> None:
    [first, second] = plan(recipe(tmp_path, precision="float32"), on(1))
    assert "weight_format: bfloat16-stochastic" not in settings_of(first)
    assert "weight_format: bfloat16-stochastic" not in settings_of(second)


def test_hours_follow_from_the_rate(tmp_path: Path) -> None:
    [first, second] = plan(recipe(tmp_path), on(80 * GIB))
    best, worst = first.planned.hours(on(GIB), first.planned.tokens or 0) or (0, 0)
    assert worst == pytest.approx(2 * best)
    assert best == pytest.approx(51_200 * first.planned.flops / 1e12 / 0.5 / 3600)
    network = structure(config("llama"), "small", torch.float32)
    parameters = sum(p.numel() for p in network.parameters()) - 1000 * 128  # the embedding is no product
    assert first.planned.flops == pytest.approx(6 * parameters, rel=0.2)
    assert second.planned.flops < first.planned.flops
    assert first.planned.hours(Machine(Gpu("a GPU of 1 GiB", GIB), 1, 1, GIB), 1) is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"base": {"scratch": {}}}, "base.scratch is built from its corpus and small; there is nothing to plan"),
        (
            {"mfpt": None, "mpeft": None, "exam": None},
            "the recipe trains nothing: it has no mfpt and no mpeft section",
        ),
    ],
    ids=["scratch", "no training"],
)
def test_what_cannot_be_planned_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as error:
        plan(recipe(tmp_path, **changes), on(GIB))
    assert str(error.value) == told


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(tmp_path).model_dump(mode="json", exclude_none=True)), encoding="utf-8")

    def said(*options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["jmedllm", "plan", str(file), "--ram", "64GiB", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    code, shown, _ = said("--gpu", "rtx4090")
    assert code == 0 and "51,200 tokens" in shown and shown.count("fits") == 2
    told = json.loads(said("--gpus", "2xh100", "--json")[1])
    assert [each["stage"] for each in told["stages"]] == ["mfpt", "mpeft"]
    assert told["machine"]["gpus"] == 2 and told["stages"][0]["as_written"]["gpu"] > 0
    choose = "give either --gpu, such as 24GiB or rtx4090, or --gpus, such as 8xh100"
    assert said() == (2, "", f"error: {choose}\n")
    assert said("--gpu", "24") == (2, "", "error: --gpu '24' is no size of memory; write 24GiB\n")
