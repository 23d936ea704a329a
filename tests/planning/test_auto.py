"""`memory: auto` chooses the first option that fits, prints and keeps it, and records the measured memory."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from jmedllm import processes
from jmedllm.cli import main
from jmedllm.errors import InputError
from jmedllm.planning import auto
from jmedllm.planning.machine import GIB, Gpu, Machine, gib, this_machine
from jmedllm.planning.plan import base_of, options_of, plan
from jmedllm.precision import Precision, choose_precision
from jmedllm.recipe import Recipe
from jmedllm.recipe_file import load_recipe
from jmedllm.stages import training_stages

CPU = choose_precision("float32", "cpu")
BF16 = choose_precision("bfloat16", "cpu")


def recipe(base: Path, **changes: Any) -> Recipe:
    values = {
        "name": "fitted",
        "memory": "auto",
        "precision": "float32",
        "device": "cpu",
        "base": {"path": str(base)},
        "corpus": {"inputs": ["demo"], "block_size": 64},
        "mfpt": {"steps": 2, "learning_rate": 1e-3, "batch_size": 4, "micro_batch_size": 4},
    }
    return Recipe.model_validate(values | changes)


def gpu(memory: int, ram: int = 64 * GIB) -> Machine:
    return Machine(Gpu("toy", memory), 1, 1, ram)


def between(wanted: Recipe, *settings: str) -> Machine:
    """A machine on which exactly these changes are the first to fit."""
    sizes = {
        tuple(change.setting for change in option.changes): option.planned
        for option in options_of(training_stages(wanted)[0], replace(base_of(wanted), dtype=torch.float32), gpu(1))
    }
    return gpu(sizes[settings].gpu, sizes[settings].host)


def fit(monkeypatch: pytest.MonkeyPatch, machine: Machine, wanted: Recipe, folder: Path) -> tuple[Recipe, list[str]]:
    message: list[str] = []
    monkeypatch.setattr(auto, "this_machine", lambda device: machine)
    return auto.fit(wanted, training_stages(wanted), CPU, folder, message.append), message


def test_a_recipe_that_does_not_ask_is_left_alone(tiny_model: Path, tmp_path: Path) -> None:
    wanted = recipe(tiny_model, memory="as-configured")
    assert auto.fit(wanted, training_stages(wanted), CPU, tmp_path, pytest.fail) is wanted
    assert auto.memory_of(wanted, tmp_path, "mfpt", CPU.device) is None and not list(tmp_path.iterdir())


def test_the_first_option_that_fits_is_chosen_printed_and_kept(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(tiny_model)
    small = between(wanted, "activation_checkpointing: recompute", "micro_batch_size: 1")
    fitted, [message] = fit(monkeypatch, small, wanted, tmp_path)
    assert fitted.mfpt and wanted.mfpt
    assert (fitted.mfpt.activation_checkpointing, fitted.mfpt.micro_batch_size, fitted.mfpt.batch_size) == (
        "recompute",
        1,
        4,
    )
    assert fitted.mfpt == wanted.mfpt.model_copy(
        update={"activation_checkpointing": "recompute", "micro_batch_size": 1}
    )
    assert (
        message.startswith("mfpt    memory: activation_checkpointing: recompute, micro_batch_size: 1 (")
        and "\n" not in message
    )
    again, _ = fit(monkeypatch, gpu(80 * GIB), wanted, tmp_path)
    assert again.mfpt == fitted.mfpt, "what was chosen stays, wherever the run goes on"
    longer = wanted.model_copy(update={"mfpt": wanted.mfpt.model_copy(update={"steps": 3})})
    other, _ = fit(monkeypatch, gpu(80 * GIB), longer, tmp_path)
    assert other.mfpt == longer.mfpt, "other settings are chosen for anew"


def test_settings_that_shape_nothing_are_no_reason_to_choose_anew(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(tiny_model)
    first, _ = fit(monkeypatch, between(wanted, "activation_checkpointing: recompute"), wanted, tmp_path)
    beside = {"save_steps": 7, "tensorboard": True, "early_stopping": {"every": 3}}
    changed = Recipe.model_validate(wanted.model_dump() | {"mfpt": wanted.model_dump()["mfpt"] | beside})
    again, _ = fit(monkeypatch, gpu(80 * GIB), changed, tmp_path)
    assert first.mfpt and again.mfpt and again.mfpt.activation_checkpointing == "recompute"
    assert changed.mfpt and again.mfpt == changed.mfpt.model_copy(update={"activation_checkpointing": "recompute"})


def test_of_several_processes_the_first_chooses(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, sent = recipe(tiny_model), []
    monkeypatch.setattr(processes, "send", sent.append)
    first, _ = fit(monkeypatch, between(wanted, "activation_checkpointing: recompute"), wanted, tmp_path / "one")
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "receive", sent.pop)
    other, message = fit(monkeypatch, gpu(80 * GIB), wanted, tmp_path / "other")
    assert other == first != wanted and message == [] and not (tmp_path / "other").exists()


@pytest.mark.parametrize("junk", ["3", "[]", '{"mfpt": 3}', '{"mfpt": {"asked": "x"}}', "settings"])
def test_an_invalid_file_of_choices_is_reported(
    junk: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(tiny_model)
    if junk == "settings":
        fit(monkeypatch, gpu(80 * GIB), wanted, tmp_path)
        junk = (tmp_path / "memory.json").read_text(encoding="utf-8").replace('"adamw"', '"sgd"')
    (tmp_path / "memory.json").write_text(junk, encoding="utf-8")
    with pytest.raises(InputError, match=r"memory.json was not written by jmedllm; remove it, or choose another"):
        fit(monkeypatch, gpu(80 * GIB), wanted, tmp_path)


def test_stages_after_the_last_one_are_not_planned(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto, "this_machine", lambda device: gpu(1))
    wanted = recipe(tiny_model)
    assert auto.fit(wanted, training_stages(wanted, until="corpus"), CPU, tmp_path, pytest.fail) == wanted


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (
            gpu(2**20),
            "toy with 1.0 MiB and 64.0 GiB on the host; the smallest machine has 0.7 GiB",
        ),
        (
            gpu(80 * GIB, GIB),
            "toy with 80.0 GiB and 1.0 GiB on the host; the smallest machine has 0.7 GiB",
        ),
    ],
    ids=["GPU", "host"],
)
def test_if_nothing_fits_it_is_reported_before_anything_is_loaded(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine, message: str
) -> None:
    with pytest.raises(InputError) as error:
        fit(monkeypatch, machine, recipe(tiny_model), tmp_path)
    assert str(error.value).startswith(f"memory: auto: mfpt does not fit {message}") and not list(tmp_path.iterdir())


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "precision",
    [pytest.param(CPU, id="float32"), pytest.param(BF16, id="bfloat16")],
)
def test_a_run_on_a_cpu_names_the_smallest_machine_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    """Without bitsandbytes a run named 89.5 GiB of GPU memory; the table of the README says 7.7."""
    wanted = load_recipe(Path(__file__).parents[2] / "recipes" / "jmedllm-v1.yaml")
    laptop = Machine(Gpu("this machine's CPU", 16 * GIB), 1, 1, 16 * GIB, is_shared=True)
    monkeypatch.setattr(auto, "this_machine", lambda device: laptop)
    with pytest.raises(InputError) as error:
        auto.fit(wanted, training_stages(wanted), precision, tmp_path, pytest.fail)
    planned = plan(wanted, training_stages(wanted), Machine(Gpu("a GPU", 24 * GIB), 1, 1, 128 * GIB))[0].smallest
    assert planned is not None
    message = f"{gib(planned.planned.gpu)} on the GPU, {gib(planned.planned.host)} on the host"
    said = str(error.value)
    assert said.startswith("memory: auto: mfpt does not fit this machine's CPU with 16.0 GiB: it needs at least ")
    assert said.endswith(f"; the smallest machine has {message}, see jmedllm plan") and message.startswith("7.7 GiB")


def test_an_option_that_changes_the_training_is_named_but_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 8000}
    (tmp_path / "base").mkdir()
    config = json.dumps({"model_type": "llama", "intermediate_size": 1536} | shape)
    (tmp_path / "base" / "config.json").write_text(config, encoding="utf-8")
    wanted = recipe(tmp_path / "base", precision="bfloat16")
    *_, last = [option.planned for option in options_of(training_stages(wanted)[0], base_of(wanted), gpu(1))]
    monkeypatch.setattr(auto, "this_machine", lambda device: gpu(last.gpu, last.host))
    with pytest.raises(InputError, match=r"optimizer_in_backward: true.* would fit, but changes the training"):
        auto.fit(wanted, training_stages(wanted), BF16, tmp_path, pytest.fail)


def test_random_init_is_refused(tiny_model: Path) -> None:
    values = recipe(tiny_model).model_dump() | {"base": {"random_init": {}}}
    with pytest.raises(ValueError, match=r"base.random_init does not have; leave it out"):
        Recipe.model_validate(values)


def test_this_machine_is_counted_whole() -> None:
    found = this_machine(torch.device("cpu"))
    assert found.is_shared and found.gpu.memory == found.ram > GIB // 2
    assert (found.gpus, found.nodes) == (1, 1)


def test_a_fitted_run_records_planned_and_measured_memory(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    wanted, file, folder = recipe(base), tmp_path / "recipe.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(wanted.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    machine = between(wanted, "activation_checkpointing: recompute")

    def run() -> tuple[int, str]:
        command = ["jmedllm", "run", str(file), "--output", str(folder), "--until", "mfpt"]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    monkeypatch.setattr(auto, "this_machine", lambda device: machine)
    code, message = run()
    assert code == 0 and "mfpt    memory: activation_checkpointing: recompute (" in message
    entry = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]["mfpt"]
    memory = entry["outputs"]["memory"]
    assert entry["recipe"]["mfpt"]["activation_checkpointing"] == "recompute" and entry["recipe"]["memory"] == "auto"
    assert memory["changes"] == ["activation_checkpointing: recompute"]
    assert memory["measured"]["gpu"] == 0 and memory["measured"]["host"] > 2**26
    assert memory["planned"]["host"] > 0 and memory["machine"].startswith("toy")
    monkeypatch.setattr(auto, "this_machine", lambda device: gpu(80 * GIB))
    code, message = run()
    assert code == 0 and "mfpt    unchanged" in message and "memory: activation_checkpointing: recompute (" in message


def test_too_small_a_host_for_the_configured_offload_is_reported_before_the_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training = {"steps": 2, "learning_rate": 1e-3, "weight_format": "bfloat16-master", "cpu_offload": "optimizer"}
    wanted = recipe(tiny_model, precision="bfloat16", memory="as-configured", mfpt=training)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(wanted.model_dump(mode="json", exclude_none=True)), encoding="utf-8")
    monkeypatch.setattr("jmedllm.planning.machine.psutil.virtual_memory", lambda: type("_", (), {"total": 2**16}))
    monkeypatch.setattr(sys, "argv", ["jmedllm", "run", str(file), "--output", str(tmp_path / "run")])
    with pytest.raises(SystemExit) as ended:
        main()
    message = capsys.readouterr().err
    assert ended.value.code == 2 and "error: cpu_offload: optimizer needs " in message
    assert not (tmp_path / "run" / "mfpt").exists()
