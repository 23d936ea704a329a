"""Host memory of a stage: the estimate is right, and too little is refused before anything is loaded."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from jmedllm.errors import InputError
from jmedllm.planning.counts import PlannedBase
from jmedllm.planning.machine import GIB, Gpu, Machine
from jmedllm.planning.needs import plan_stage, require_host_memory
from jmedllm.planning.shape import config_of
from jmedllm.training.config import TrainingConfig

PEAK = Path(__file__).parent / "host_peak.py"
AWAY = {"weight_format": "bfloat16-master", "cpu_offload": "optimizer", "activation_checkpointing": "recompute"}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("offload", "optimizer"),
    [
        ("optimizer", "adamw"),
        ("layers", "adamw-8bit"),
    ],
)
def test_an_offloaded_training_takes_the_host_memory_that_is_planned(
    tmp_path: Path, offload: str, optimizer: str
) -> None:
    # Freed memory goes back to the system at once: what libraries leave behind is no part of the plan.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, str(PEAK), offload, optimizer, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["weights, float32"] == figures["gradients, float32"] == 4 * 44_268_032
    assert figures["measured"] == pytest.approx(figures["planned"], rel=0.1)


def base(name: str = "Qwen/Qwen2-7B-Instruct") -> PlannedBase:
    return PlannedBase(name, json.dumps(config_of(name)), torch.bfloat16)


def settings(**changes: Any) -> TrainingConfig:
    return TrainingConfig.model_validate({"steps": 1, "learning_rate": 1e-5} | AWAY | changes)


def host(ram: int, *, is_shared: bool = False) -> Machine:
    return Machine(Gpu("toy", 24 * GIB), 1, 1, ram, is_shared=is_shared)


def test_a_host_that_is_large_enough_is_taken() -> None:
    require_host_memory(settings(), 128, base(), host(128 * GIB))
    require_host_memory(settings(cpu_offload="none", weight_format="float32"), 128, base(), host(GIB))


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("activations", ["recompute", "offload"])
def test_a_host_is_refused_a_byte_below_what_is_planned(activations: str, is_shared: bool) -> None:
    wanted = settings(activation_checkpointing=activations, optimizer="adamw-8bit")
    planned = plan_stage("mfpt", wanted, 128, base(), host(0, is_shared=is_shared))
    size = planned.host + is_shared * planned.gpu
    require_host_memory(wanted, 128, base(), host(size, is_shared=is_shared))
    with pytest.raises(InputError, match=r"Python and its libraries \(assumed\)"):
        require_host_memory(wanted, 128, base(), host(size - 1, is_shared=is_shared))


@pytest.mark.parametrize(
    ("changes", "ram", "message"),
    [
        (
            {},
            100,
            "cpu_offload: optimizer needs 116.0 GiB of host memory (gradients in transit 0.5 GiB, weights, float32 "
            "28.4 GiB, gradients, float32 28.4 GiB, moments, adamw 56.7 GiB, Python and its libraries (assumed) "
            "2.0 GiB), this machine has 100.0 GiB; set optimizer: adamw-bf16 (87.6 GiB) or take a machine with "
            "more",
        ),
        ({}, 80, "set optimizer: adamw-8bit (76.7 GiB) or take a machine with more"),
        ({"cpu_offload": "layers"}, 64, "this machine has 64.0 GiB; take a machine with more"),
        ({"optimizer": "adamw-8bit"}, 64, "this machine has 64.0 GiB; take a machine with more"),
    ],
    ids=["100 GiB", "80 GiB", "weights", "8 bits are too many"],
)
def test_too_small_a_host_is_reported_with_numbers_and_the_fix(
    changes: dict[str, Any], ram: int, message: str
) -> None:
    with pytest.raises(InputError) as error:
        require_host_memory(settings(**changes), 128, base(), host(ram * GIB))
    assert message in str(error.value) and "\n" not in str(error.value)
