"""What a training stage needs for certain: refused before anything is loaded where this machine has less."""

import json
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jmedllm.errors import InputError
from jmedllm.planning import preflight
from jmedllm.planning.counts import PlannedBase
from jmedllm.planning.machine import GIB, Gpu, Machine, gib
from jmedllm.planning.needs import least_needs, plan_stage
from jmedllm.planning.plan import TrainingStage
from jmedllm.planning.preflight import require_machine
from jmedllm.planning.shape import config_of
from jmedllm.recipe import MpeftConfig
from jmedllm.training.config import TrainingConfig

QWEN2 = PlannedBase("Qwen/Qwen2-7B", json.dumps(config_of("Qwen/Qwen2-7B")), torch.bfloat16)
STEP: dict[str, Any] = {"steps": 1, "learning_rate": 1e-5}
SETTINGS = {
    "mfpt": TrainingConfig(**STEP),
    "in bfloat16": TrainingConfig(**STEP, weight_format="bfloat16-master", optimizer="adamw-8bit"),
    "offloaded": TrainingConfig(**STEP, weight_format="bfloat16-master", cpu_offload="optimizer"),
    "mpeft": MpeftConfig(**STEP, instructions=["talk.jsonl"]),
    "mpeft in 4 bits": MpeftConfig.model_validate(
        {**STEP, "instructions": ["talk.jsonl"], "adapter": {"quantization": "nf4"}}
    ),
}
MACHINES = {
    "CPU": Machine(Gpu("this machine's CPU", 256 * GIB), 1, 1, 256 * GIB, is_shared=True),
    "8 GPUs": Machine(Gpu("H100", 80 * GIB), 8, 1, 512 * GIB),
}


@pytest.fixture(autouse=True)
def without_swap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.psutil, "swap_memory", lambda: SimpleNamespace(total=0))


def stage(name: str) -> TrainingStage:
    return TrainingStage("mpeft" if "mpeft" in name else "mfpt", SETTINGS[name], 512, None, benchmarks=False)


def cpu(memory: int) -> Machine:
    return Machine(Gpu("this machine's CPU", memory), 1, 1, memory, is_shared=True)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["mfpt", "in bfloat16", "mpeft", "mpeft in 4 bits"])
def test_the_least_is_the_plan_without_activations(name: str, machine: str) -> None:
    planned = {part.name: part for part in plan_stage("", SETTINGS[name], 512, QWEN2, MACHINES[machine]).parts}
    least = {part.name: part for part in least_needs(SETTINGS[name], QWEN2, MACHINES[machine]).parts}
    for part in least:
        for where in ("gpu", "host", "disk"):
            expected = getattr(planned[part], where)
            assert getattr(least[part], where) == pytest.approx(expected, abs=4096)  # buffers of the base
    left_out = [part for part in planned if part not in least]
    assert all(part.startswith(("kept for", "temporary", "CUDA", "Python")) for part in left_out)


def test_a_machine_that_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        require_machine(stage("mfpt"), QWEN2, cpu(64 * GIB), tmp_path)
    assert str(error.value) == (
        "mfpt: needs 113.5 GiB of memory without any activations, this machine has 64.0 GiB; set memory: auto, or "
        "see jmedllm plan for what fits"
    )
    with pytest.raises(InputError, match=r"mpeft: needs 14\.\d GiB on the GPU, .* has 12.0 GiB on the GPU"):
        require_machine(stage("mpeft"), QWEN2, Machine(Gpu("small", 12 * GIB), 1, 1, 64 * GIB), tmp_path)


def test_a_step_that_cannot_be_traced_is_noticed_and_not_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise InputError("its training step cannot be traced")

    monkeypatch.setattr(preflight, "plan_stage", refuse)
    assert require_machine(stage("mpeft"), QWEN2, cpu(256 * GIB), tmp_path)
    assert "the memory of activations was not checked: its training step cannot be traced" in capsys.readouterr().err


def test_memory_that_is_shared_must_suffice_as_configured(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        require_machine(stage("mpeft"), QWEN2, cpu(16 * GIB), tmp_path)
    planned = plan_stage("mpeft", SETTINGS["mpeft"], 512, QWEN2, cpu(16 * GIB))
    assert not planned.fits(cpu(16 * GIB)) and least_needs(SETTINGS["mpeft"], QWEN2, cpu(16 * GIB)).fits(cpu(16 * GIB))
    assert str(error.value) == (
        f"mpeft: needs {gib(planned.gpu + planned.host)} of memory, this machine has 16.0 GiB; set memory: auto, or "
        "see jmedllm plan for what fits"
    )


def test_a_gpu_that_may_be_too_small_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert require_machine(stage("mpeft"), QWEN2, Machine(Gpu("small", 24 * GIB), 1, 1, 64 * GIB), tmp_path)
    noticed = capsys.readouterr().err
    assert "mpeft: needs 14.8 GiB on the GPU" in noticed and "of this machine, and more for activations" in noticed
    assert require_machine(stage("mpeft"), QWEN2, cpu(64 * GIB), tmp_path)
    assert capsys.readouterr().err == ""


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(20 * GIB))
    with pytest.raises(InputError, match=r"mfpt \(two checkpoints and the model\) needs 184\.\d+ GiB more"):
        require_machine(stage("mfpt"), QWEN2, cpu(256 * GIB), tmp_path)
    monkeypatch.setattr(preflight, "folder_bytes", {tmp_path / "mfpt": 180 * GIB}.get)
    assert require_machine(stage("mfpt"), QWEN2, cpu(256 * GIB), tmp_path)


def test_a_config_without_the_usual_sizes_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gpt2 = PlannedBase("gpt2", json.dumps({"model_type": "gpt2", "n_embd": 64}), torch.float32)
    assert not require_machine(stage("mfpt"), gpt2, cpu(GIB), tmp_path)
    assert "mfpt: memory and disk were not checked: config of gpt2: lacks hidden_size" in capsys.readouterr().err
