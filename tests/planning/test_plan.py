"""A plan estimates the memory of a real step, and lists changes that make it fit."""

import json
import sys
from dataclasses import replace
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from rich.console import Console

from jmedllm.cli import main
from jmedllm.errors import InputError
from jmedllm.planning.counts import FEW, PlannedBase, step_of
from jmedllm.planning.hours import Work
from jmedllm.planning.machine import GIB, Gpu, Machine, Rates
from jmedllm.planning.needs import NF4, Component, StagePlan, plan_stage
from jmedllm.planning.plan import Advice, base_of, options_of
from jmedllm.planning.plan import plan as plan_stages
from jmedllm.planning.printing import print_plan
from jmedllm.planning.shape import keep_layers, structure
from jmedllm.planning.tracing import StepMemory, extrapolate, measure_step, trace_step
from jmedllm.precision import Precision
from jmedllm.recipe import MpeftConfig, Recipe
from jmedllm.stages import training_stages
from jmedllm.training.config import TrainingConfig
from jmedllm.training.lora import AdapterConfig, add_adapter
from jmedllm.training.optim.build import build
from jmedllm.training.optim.weights import WEIGHT_FORMATS, cast_weights

SMALL = {"hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 1000}
GATED = SMALL | {"intermediate_size": 256, "num_key_value_heads": 2, "tie_word_embeddings": False}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen2": GATED | {"tie_word_embeddings": True},
    "qwen3": GATED | {"head_dim": 32},
    "llama": GATED,
    "mistral": GATED,
    "gemma": GATED | {"head_dim": 32, "tie_word_embeddings": True},
    "gpt_neox": SMALL | {"intermediate_size": 512},
    "qwen3_moe": GATED | {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "head_dim": 32},
    "gpt_oss": GATED | {"num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 64, "head_dim": 32},
}
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}
MIXED: dict[str, dict[str, Any]] = {
    "qwen3_moe": GATED | EXPERTS | {"head_dim": 32},
    "gpt_oss": GATED | EXPERTS | {"head_dim": 32},
    "qwen3_5_text": GATED | {"head_dim": 32, "layer_types": ["linear_attention"] * 2 + ["full_attention"]},
    "lfm2": GATED | {"layer_types": ["conv", "full_attention", "conv"]},
}
"""Architectures with experts, with masks of their own, and with layers of several kinds."""
SAMPLE = ("qwen2",)
"""Architectures of the usual tests; the exhaustive tests take all."""
BFLOAT16 = Precision(torch.device("cpu"), torch.bfloat16, "tested")
SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "recomputed": {"activation_checkpointing": "recompute"},
    "master copies": {"activation_checkpointing": "recompute", "weight_format": "bfloat16-master"},
    "8 bits": {"activation_checkpointing": "recompute", "optimizer": "adamw-8bit"},
    "sent away": {
        "activation_checkpointing": "recompute",
        "weight_format": "bfloat16-master",
        "cpu_offload": "optimizer",
    },
    "in backward": {
        "activation_checkpointing": "recompute",
        "weight_format": "bfloat16-stochastic",
        "optimizer_in_backward": True,
        "max_grad_norm": None,
        "batch_size": 2,
    },
}


def plan(wanted: Recipe, machine: Machine, folder: Path | None = None) -> list[Advice]:
    return plan_stages(wanted, training_stages(wanted, folder), machine)


def config(architecture: str) -> dict[str, Any]:
    return {"model_type": architecture} | (CONFIGS | MIXED)[architecture]


def real(architecture: str, dtype: torch.dtype = torch.float32) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(AutoConfig.for_model(**config(architecture)), dtype=dtype)


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        *((each, "as it is") for each in (*CONFIGS, *MIXED) if each != "qwen3_5_text"),
        pytest.param("qwen3_5_text", "as it is", marks=pytest.mark.exhaustive),
        *(pytest.param(each, "recomputed", marks=pytest.mark.exhaustive) for each in MIXED),
        *(("qwen2", each) for each in SETTINGS),
    ],
)
def test_a_traced_step_has_the_memory_of_a_real_one(architecture: str, name: str) -> None:
    settings = TrainingConfig(steps=1, learning_rate=1e-3, micro_batch_size=2, **SETTINGS[name])
    measured = measure_step(cast_weights(real(architecture), settings.weight_format), settings, BFLOAT16, 256)
    network = cast_weights(structure(config(architecture), "small", torch.float32), settings.weight_format)
    planned = trace_step(network, settings, BFLOAT16, 256)
    for exact in ("frozen", "trained", "numbers", "inputs"):
        assert getattr(planned, exact) == getattr(measured, exact)
    assert planned.saved == pytest.approx(measured.saved, rel=0.1)
    assert planned.working == pytest.approx(measured.working, rel=0.1)


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(each, marks=[] if each in SAMPLE else [pytest.mark.exhaustive]) for each in CONFIGS],
)
@pytest.mark.parametrize("stage", ["mfpt", "mfpt, nothing recomputed", "mpeft"])
def test_a_deep_model_is_extrapolated_from_a_few_layers(architecture: str, stage: str) -> None:
    deep = config(architecture) | {"num_hidden_layers": 6}
    kept = "none" if "nothing" in stage else "recompute"
    settings = TrainingConfig(steps=1, learning_rate=1e-3, activation_checkpointing=kept)

    def traced(layers: int) -> StepMemory:
        network = structure(deep, "small", torch.bfloat16 if stage == "mpeft" else torch.float32)
        keep_layers(network, layers)
        if stage == "mpeft":
            with torch.device("meta"):
                network = add_adapter(network, AdapterConfig(r=64, alpha=8), 0)
        return trace_step(network, settings, BFLOAT16, 64)

    message, whole = extrapolate(traced(FEW), traced(2 * FEW), 6 / FEW), traced(6)
    assert message.working == pytest.approx(whole.working, rel=1e-3)
    assert replace(message, forward=0, backward=0) == replace(whole, forward=0, backward=0)


@pytest.mark.exhaustive
def test_a_hybrid_model_is_extrapolated_from_whole_periods() -> None:
    """Three gated delta layers and one of attention, four times: copies of 4 and of 8 layers are traced."""
    kinds = ["linear_attention"] * 3 + ["full_attention"]
    delta = {"linear_num_value_heads": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 32}
    sizes = delta | {"linear_value_head_dim": 32, "head_dim": 32, "num_hidden_layers": 16, "layer_types": kinds * 4}
    hybrid = {"model_type": "qwen3_5_text"} | GATED | sizes
    settings = TrainingConfig(steps=1, learning_rate=1e-3, activation_checkpointing="recompute")
    found = step_of(PlannedBase("hybrid", json.dumps(hybrid), torch.bfloat16), settings, 64)
    whole = trace_step(structure(hybrid, "hybrid", torch.float32), settings, BFLOAT16, 64)
    assert found.working == pytest.approx(whole.working, rel=1e-3)
    assert replace(found, forward=0, backward=0) == replace(whole, forward=0, backward=0)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_traced_adapter_is_as_large_as_a_real_one(kind: Any) -> None:
    settings, adapter = TrainingConfig(steps=1, learning_rate=1e-3), AdapterConfig(kind=kind, r=8, alpha=8)
    measured = measure_step(add_adapter(real("llama", torch.bfloat16), adapter, 0), settings, BFLOAT16, 128)
    with torch.device("meta"):
        network = add_adapter(structure(config("llama"), "small", torch.bfloat16), adapter, 0)
    planned = trace_step(network, settings, BFLOAT16, 128)
    assert (planned.frozen, planned.trained) == (measured.frozen, measured.trained)
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
    base = folder.parent / "base"  # the same for all tests: what is traced once is not traced again
    base.mkdir(exist_ok=True)
    (base / "config.json").write_text(json.dumps(config("llama")), encoding="utf-8")
    values = {
        "name": "small",
        "base": {"path": str(base)},
        "corpus": {"inputs": ["demo"], "block_size": 128},
        "mfpt": {"steps": 100, "learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 4},
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


def part(planned: StagePlan, name: str) -> Component:
    [found] = [each for each in planned.parts if each.name.startswith(name)]
    return found


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama", "mistral", "gemma"])
def test_weights_and_state_are_exact_to_the_byte(architecture: str) -> None:
    base = PlannedBase("small", json.dumps(config(architecture)), torch.bfloat16)
    for weight_format, optimizer in product(WEIGHT_FORMATS, ("adamw", "adamw-bf16", "adamw-8bit")):
        settings = TrainingConfig(steps=1, learning_rate=1e-3, weight_format=weight_format, optimizer=optimizer)
        planned = plan_stage("mfpt", settings, 128, base, on(GIB))
        network = cast_weights(real(architecture), weight_format)
        state = build(network, settings, torch.device("cpu")).state()
        assert part(planned, "weights").gpu == sum(p.nbytes for p in network.parameters())
        assert part(planned, "gradients").gpu == sum(4 * p.numel() for p in network.parameters())
        assert part(planned, "optimizer").gpu == sum(tensor.nbytes for tensor in state.values())


def test_a_plan_that_does_not_fit_lists_changes_in_order_of_cost(tmp_path: Path) -> None:
    [first, second] = plan(recipe(tmp_path), on(80 * GIB))
    assert (first.planned.stage, second.planned.stage) == ("mfpt", "mpeft")
    assert settings_of(first) == settings_of(second) == []
    assert first.planned.tokens == 100 * 4 * 128 and second.planned.tokens is None
    [tight, _] = plan(recipe(tmp_path), on(first.planned.gpu - 1))
    assert settings_of(tight) == ["activation_checkpointing: recompute"]
    assert tight.chosen and tight.chosen.planned.fits(on(first.planned.gpu - 1))


def test_options_are_tried_in_order_and_each_is_a_complete_set_of_changes(tmp_path: Path) -> None:
    wanted = recipe(tmp_path)
    stage = training_stages(wanted)[0]
    message = [[each.setting for each in o.changes] for o in options_of(stage, base_of(wanted), on(GIB))]
    lean = ["activation_checkpointing: recompute", "micro_batch_size: 1"]
    assert message[:3] == [[], lean[:1], lean]
    away = ["weight_format: bfloat16-master", "cpu_offload: optimizer"]
    assert [*lean, *away] in message
    assert message.index([*lean, *away]) < message.index([*lean, "optimizer: adamw-bf16", *away])
    # Neither of two ways carries what only the other needs.
    assert not any({"weight_format: bfloat16-stochastic", "cpu_offload: optimizer"} <= set(each) for each in message)
    assert message[-1][-1].startswith("optimizer_in_backward: true")


def test_what_the_recipe_has_already_is_not_advised_and_not_taken_back(tmp_path: Path) -> None:
    training = {"steps": 1, "learning_rate": 1e-3, "activation_checkpointing": "offload", "optimizer": "adamw-8bit"}
    wanted = recipe(tmp_path, mfpt=training)
    for option in options_of(training_stages(wanted)[0], base_of(wanted), on(GIB)):
        message = {change.setting for change in option.changes}
        assert option.settings.activation_checkpointing == "offload" and option.settings.optimizer == "adamw-8bit"
        assert not {"activation_checkpointing: recompute", "optimizer: adamw-bf16", "optimizer: adamw-8bit"} & message


def test_if_nothing_fits_the_smallest_machine_is_printed(tmp_path: Path) -> None:
    [never, _] = plan(recipe(tmp_path), on(1))
    assert never.chosen is None and never.changes == ()
    assert never.smallest is not None
    message = [change.setting for change in never.smallest.changes]
    assert never.smallest.planned.gpu < never.planned.gpu and "adapter: {quantization: nf4}" not in message
    enough = Machine(on(never.smallest.planned.gpu).gpu, 1, 1, never.smallest.planned.host)
    [exactly, _] = plan(recipe(tmp_path), enough)
    assert exactly.chosen is not None and exactly.chosen.planned.gpu <= never.smallest.planned.gpu
    [host, _] = plan(recipe(tmp_path), replace(on(80 * GIB), ram=GIB))
    assert host.chosen is None, "the host is too small for Python alone"


def test_on_a_cpu_gpu_and_host_are_one_memory(tmp_path: Path) -> None:
    shared = replace(on(64 * GIB), is_shared=True)
    [first, _] = plan(recipe(tmp_path), shared)
    both = first.planned.gpu + first.planned.host
    assert first.planned.fits(replace(shared, ram=both)) and not first.planned.fits(replace(shared, ram=both - 1))
    assert not [each for each in first.planned.parts if each.name.startswith("CUDA")]


def test_shards_are_shared_and_what_they_refuse_is_not_advised(tmp_path: Path) -> None:
    [one, _], [four, _] = plan(recipe(tmp_path), on(1)), plan(recipe(tmp_path), on(1, 4))
    saved = {part.name: part.gpu for part in one.planned.parts}
    for each in four.planned.parts:
        if each.name.startswith(("weights", "gradients", "optimizer")):
            assert each.gpu == saved[each.name] // 4
    wanted = recipe(tmp_path)
    message = {c.setting for o in options_of(training_stages(wanted)[0], base_of(wanted), on(1, 4)) for c in o.changes}
    assert message == {
        "activation_checkpointing: recompute",
        "activation_checkpointing: offload",
        "micro_batch_size: 1",
        "optimizer: adamw-bf16",
    }


@pytest.mark.parametrize(
    ("changes", "processes", "message"),
    [
        ({"optimizer": "adamw-8bit"}, 2, "optimizer adamw-8bit uses blocks that do not match the shards"),
        (
            {"weight_format": "bfloat16-master", "cpu_offload": "optimizer"},
            2,
            "cpu_offload and optimizer_in_backward need one",
        ),
        ({"optimizer": "adamw-8bit"}, 1, None),
    ],
)
def test_a_recipe_that_a_run_would_refuse_is_reported(
    tmp_path: Path, changes: dict[str, Any], processes: int, message: str | None
) -> None:
    training = {"steps": 1, "learning_rate": 1e-3} | changes
    [first, _] = plan(recipe(tmp_path, mfpt=training), on(80 * GIB, processes))
    assert first.refusal is None if message is None else message in str(first.refusal)
    assert (first.chosen is not None and first.chosen.changes == ()) == (message is None)


def test_if_no_option_is_supported_the_reason_is_printed(tmp_path: Path) -> None:
    mpeft = recipe(tmp_path).model_dump()["mpeft"] | {"offload_embedding": True}
    wanted = recipe(tmp_path, mfpt=None, mpeft=mpeft)
    (tmp_path / "tied").mkdir()
    (tmp_path / "tied" / "config.json").write_text(json.dumps(config("qwen2")), encoding="utf-8")
    wanted = Recipe.model_validate(wanted.model_dump() | {"base": {"path": str(tmp_path / "tied")}})
    screen = Console(file=StringIO(), width=200)
    print_plan(plan(wanted, on(80 * GIB)), None, on(80 * GIB), screen)
    message = "the base's embedding shares its weights with the output head; set offload_embedding: false"
    assert f"smallest machine: none, no combination of settings is supported: {message}\n" in screen.file.getvalue()


def test_what_a_run_would_refuse_is_not_advised(tmp_path: Path) -> None:
    wanted = recipe(tmp_path, precision="float32")
    for stage in training_stages(wanted):
        message = {c.setting for o in options_of(stage, base_of(wanted), on(1)) for c in o.changes}
        assert not [each for each in message if each.startswith(("weight_format", "cpu_offload"))]


def test_hours_follow_from_the_rate(tmp_path: Path) -> None:
    [first, second] = plan(recipe(tmp_path), on(80 * GIB))
    best, worst = first.planned.hours(on(GIB), first.planned.tokens or 0) or (0, 0)
    assert worst == pytest.approx(0.7 / 0.25 * best)
    assert best == pytest.approx(51_200 * first.planned.work.flops / 1e12 / 0.7 / 3600)
    network = structure(config("llama"), "small", torch.float32)
    parameters = sum(p.numel() for p in network.parameters()) - 1000 * 128  # the embedding is no product
    assert first.planned.work.flops == pytest.approx(6 * parameters, rel=0.2)
    assert second.planned.work.flops < first.planned.work.flops
    assert first.planned.hours(Machine(Gpu("a GPU of 1 GiB", GIB), 1, 1, GIB), 1) is None


def test_transfers_over_the_link_take_time() -> None:
    numbers, machine = 1_000, on(GIB)  # 1e12 products, a link of 1e10 bytes a second
    work = Work(
        flops=0, row_tokens=100, batch_size=2, micro_batch_size=1, pass_bytes=2 * numbers, step_bytes=2 * numbers
    )
    best, worst = work.hours(machine, 1_000) or (0, 0)
    assert worst * 3600 == pytest.approx((10 * 2_000 + 5 * 2_000) / 0.5e10)
    assert best * 3600 == pytest.approx((10 * 2_000 + 5 * 2_000) / 0.9e10)
    stepping = Work(flops=0, row_tokens=100, batch_size=2, micro_batch_size=1, host_bytes=30 * numbers)
    assert [each * 3600 for each in stepping.hours(machine, 1_000) or ()] == pytest.approx(
        [5 * 30_000 / 150e9, 5 * 30_000 / 20e9]
    )


@pytest.mark.parametrize(("gpus", "rows", "passes"), [(1, 8, 3), (2, 4, 2), (3, 3, 1), (8, 1, 1), (16, 1, 1)])
def test_several_gpus_are_as_fast_as_the_one_with_most_rows(gpus: int, rows: int, passes: int) -> None:
    computing = Work(flops=1e6, row_tokens=100, batch_size=8, micro_batch_size=3)
    assert (computing.hours(on(GIB, gpus), 800) or (0,))[0] * 3600 == pytest.approx(rows * 1e8 / 0.7e12)
    sending = Work(flops=0, row_tokens=100, batch_size=8, micro_batch_size=3, pass_bytes=10**6)
    assert (sending.hours(on(GIB, gpus), 800) or (0,))[0] * 3600 == pytest.approx(passes * 1e6 / 0.9e10)


def test_memory_or_cores_limit_the_speed_of_a_host_step(tmp_path: Path) -> None:
    base = base_of(recipe(tmp_path))
    fixed = {"weight_format": "bfloat16-master", "cpu_offload": "optimizer", "activation_checkpointing": "recompute"}
    found = {}
    for optimizer in ("adamw", "adamw-bf16", "adamw-8bit"):
        settings = TrainingConfig.model_validate({"steps": 1, "learning_rate": 1.0, "optimizer": optimizer} | fixed)
        found[optimizer] = plan_stage("mfpt", settings, 128, base, on(GIB)).work
    embedding, numbers = 1000 * 128, found["adamw"].pass_bytes // 2
    assert found["adamw"].host_seconds == pytest.approx(1.17e-9 * numbers)
    assert found["adamw-bf16"].host_seconds == pytest.approx(1.87e-9 * numbers)
    in_8_bits = found["adamw-8bit"]
    assert in_8_bits.host_seconds == pytest.approx(27e-9 * (numbers - embedding) + 1.17e-9 * embedding)
    stepping = replace(in_8_bits, flops=0, pass_bytes=0, step_bytes=0)
    for cores, (most, least) in {None: (64, 8), 4: (4, 4)}.items():
        hours = stepping.hours(replace(on(GIB), cores=cores), in_8_bits.row_tokens * in_8_bits.batch_size) or ()
        seconds = in_8_bits.host_seconds
        assert [each * 3600 for each in hours] == pytest.approx([seconds / most, seconds / least])


def test_an_offloaded_step_moves_two_bytes_a_parameter_each_way_and_touches_thirty(tmp_path: Path) -> None:
    base = base_of(recipe(tmp_path))
    numbers = 2 * 1000 * 128 + 3 * (128 * 128 * 3 + 3 * 128 * 256 + 2 * 128) + 128
    settings = TrainingConfig(
        steps=1,
        learning_rate=1.0,
        weight_format="bfloat16-master",
        cpu_offload="optimizer",
        activation_checkpointing="recompute",
    )
    work = plan_stage("mfpt", settings, 128, base, on(GIB)).work
    assert (work.pass_bytes, work.step_bytes) == (2 * numbers, 2 * numbers)
    assert work.host_bytes == pytest.approx(30 * numbers, rel=1e-3)
    fewer = settings.model_copy(update={"optimizer": "adamw-bf16"})
    assert plan_stage("mfpt", fewer, 128, base, on(GIB)).work.host_bytes == pytest.approx(22 * numbers, rel=0.2)
    away = plan_stage("mfpt", settings.model_copy(update={"cpu_offload": "layers"}), 128, base, on(GIB)).work
    layers = numbers - 2 * 1000 * 128 - 128
    assert (away.pass_bytes, away.step_bytes) == (2 * numbers + 4 * layers, 2 * (numbers - layers))


def test_packed_blocks_say_how_many_steps_there_are(tmp_path: Path) -> None:
    blocks = tmp_path / "run" / "corpus" / "blocks"
    wanted = recipe(tmp_path, mfpt={"epochs": 2, "learning_rate": 1e-3, "batch_size": 4})
    assert plan(wanted, on(GIB), tmp_path / "run")[0].planned.steps is None
    blocks.mkdir(parents=True)
    np.save(blocks / "ids.npy", np.zeros((10, 128), np.int32))
    planned = plan(wanted, on(GIB), tmp_path / "run")[0].planned
    assert (planned.steps, planned.tokens) == (5, 5 * 4 * 128)
    np.save(blocks / "ids.npy", np.zeros((10, 64), np.int32))
    assert plan(wanted, on(GIB), tmp_path / "run")[0].planned.steps is None, "they are of another recipe"
    whole = (blocks / "ids.npy").read_bytes()
    for junk in (b"", b"junk", whole[:-1]):
        (blocks / "ids.npy").write_bytes(junk)
        with pytest.raises(InputError, match=r"ids.npy: contains no packed blocks: .*; remove .*corpus and pack"):
            training_stages(wanted, tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"base": {"random_init": {}}},
            "base.random_init builds a small model from the corpus; there is nothing to plan",
        ),
        (
            {"mfpt": None, "mpeft": None, "eval": None},
            "the recipe trains nothing; add the section of a stage that trains, such as mpeft",
        ),
    ],
    ids=["random_init", "no training"],
)
def test_what_cannot_be_planned_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        plan(recipe(tmp_path, **changes), on(GIB))
    assert str(error.value) == message


def test_a_step_that_cannot_be_traced_is_reported_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    sizes_that_do_not_go_together = GATED | {"model_type": "qwen2", "hidden_size": 1023, "num_attention_heads": 8}
    base = PlannedBase("mine", json.dumps(sizes_that_do_not_go_together), torch.bfloat16)
    message = "config of mine: its training step cannot be traced: Attempting to broadcast"
    with pytest.raises(InputError, match=message) as error:
        plan_stage("mfpt", TrainingConfig(steps=1, learning_rate=1.0), 128, base, on(GIB))
    assert "\n" not in str(error.value) and "Traceback" not in capfd.readouterr().err


def test_experts_are_no_linear_layers_and_the_rows_say_so() -> None:
    dense, experts = GATED | {"model_type": "llama"}, GATED | {"model_type": "mixtral", "num_local_experts": 8}
    training = {"epochs": 1, "learning_rate": 1e-3, "adapter": {"quantization": "nf4"}}
    settings = MpeftConfig.model_validate({"questions": [{"benchmark": "demo", "languages": ["ja"]}]} | training)
    for shape, message in (
        (dense, "base, 4 bits"),
        (experts, "base, linear layers in 4 bits, experts (93%) in bfloat16"),
    ):
        base = PlannedBase("mine", json.dumps(shape | {"vocab_size": 64}), torch.bfloat16)
        assert plan_stage("mpeft", settings, 128, base, on(GIB)).parts[0].name == message


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(tmp_path).model_dump(mode="json", exclude_none=True)), encoding="utf-8")

    def said(*options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["jmedllm", "plan", str(file), "--ram", "64GiB", *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    code, presented, _ = said("--gpu", "rtx4090")
    assert code == 0 and "100 steps, 51,200 tokens" in presented and presented.count("fits") == 2
    assert presented.count("smallest machine: ") == 2
    message = json.loads(said("--gpus", "2xh100", "--json")[1])
    assert [each["stage"] for each in message["stages"]] == ["mfpt", "mpeft"]
    assert message["machine"]["gpus"] == 2 and message["stages"][0]["as_configured"]["gpu"] > 0
    assert message["stages"][0]["smallest"]["gpu"] <= message["stages"][0]["as_configured"]["gpu"]
    waiting = said("--gpus", "16xh100")[1]
    assert "a batch has 4 rows: 12 of 16 GPUs are idle" in waiting.replace("\n", " ")
    choose = "give either --gpu, such as 24GiB or rtx4090, or --gpus, such as 8xh100"
    other = "--nodes and --ram describe another machine; give its --gpu or --gpus, too"
    assert said() == (2, "", f"error: {other}\n")
    assert said("--gpu", "24GiB", "--gpus", "2x24GiB") == (2, "", f"error: {choose}\n")
    assert said("--gpu", "24") == (2, "", "error: --gpu '24' is not a memory size; write 24GiB\n")


def test_without_a_gpu_the_command_plans_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe(tmp_path).model_dump(mode="json", exclude_none=True)), encoding="utf-8")

    def planned(*options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["jmedllm", "plan", str(file), *options])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), *capsys.readouterr()

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("jmedllm.planning.machine.host_memory", lambda: 64 * 2**30)
    code, output, errors = planned()
    assert code == 0 and errors == (
        f"planning for this machine's CPU and 64.0 GiB of memory; --gpu plans for a GPU\nnext:  jmedllm run {file}\n"
    )
    assert output.startswith("this machine's CPU: 64.0 GiB")
    code, output, errors = planned("--json")
    assert code == 0 and json.loads(output)["machine"]["gpu"]["name"] == "this machine's CPU" and "next" not in errors
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("precision: auto", "precision: float32"), encoding="utf-8")
    assert planned("--json")[1] == output  # what a run chooses on this CPU
    file.write_text(text.replace("precision: auto", "precision: bfloat16"), encoding="utf-8")
    assert planned("--json")[1] != output
    monkeypatch.setattr("jmedllm.planning.machine.host_memory", lambda: 2**20)
    assert "next" not in planned()[2]  # a run would not fit
