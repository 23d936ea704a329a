"""Any number of processes train the same: losses, weights, one another's checkpoints; an error is one line."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from distributed_worker import CASES, main
from safetensors import safe_open
from safetensors.torch import load_file

from conftest import TEXTS
from fork_server import ForkServer
from jmedllm.errors import InputError
from jmedllm.models.random_init import RandomInit, build
from jmedllm.training.config import TrainingConfig, require_shardable

WORKER = Path(__file__).with_name("distributed_worker.py")
Row = dict[str, Any]


def start(*arguments: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "torch.distributed.run", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


MEETS = """
from jmedllm.processes import process_group, rank, summed
with process_group():
    print(summed(rank().global_rank + 1))
"""


@pytest.mark.exhaustive
def test_two_launchers_meet_at_an_address_as_on_two_machines(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    (tmp_path / "meets.py").write_text(MEETS, encoding="utf-8")
    meeting = ("--nnodes", 2, "--nproc-per-node", 1, "--rdzv-backend", "c10d", "--rdzv-endpoint", address)
    launchers = [start(*meeting, "--rdzv-id", "test", tmp_path / "meets.py") for _ in range(2)]
    for launcher in launchers:
        said, errors = launcher.communicate(timeout=240)
        assert (launcher.returncode, said) == (0, "3.0\n"), errors


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, forks: ForkServer) -> Path:
    """All cases trained by 1, 2 and 4 processes, and checkpoints handed from one number to another."""
    root = tmp_path_factory.mktemp("distributed")
    build(RandomInit(vocabulary=320, hidden_size=128, layers=2, feed_forward=128), TEXTS, root / "base", 0)
    main(root, [*(f"1-{name}:{name}" for name in CASES), "1-then-2:full:stopped", "nf4-then-2:nf4:stopped"])
    jobs = [f"2-{name}:{name}" for name in CASES]
    resumed = ["1-then-2:full", "nf4-then-2:nf4", "2-then-2:dropout:stopped", "2-then-2:dropout"]
    for ended in forks.run_ranks(2, WORKER, root, *jobs, *resumed, "2-then-4:full:stopped"):
        assert ended.returncode == 0, ended.stderr
    killed = forks.run_ranks(4, WORKER, root, "2-then-4:full", "4-killed-then-1:lora:killed")
    assert -signal.SIGKILL in [each.returncode for each in killed], killed[0].stderr
    shutil.copytree(root / "4-killed-then-1", root / "4-killed")
    main(root, ["4-killed-then-1:lora"])
    return root


def logged(folder: Path, name: str = "metrics.jsonl") -> list[Row]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


SAME = [
    *((f"2-{name}", name) for name in CASES if name != "dropout"),
    ("1-then-2", "full"),
    ("nf4-then-2", "nf4"),
    ("2-then-4", "full"),
    ("4-killed-then-1", "lora"),
]


@pytest.mark.parametrize(("name", "case"), SAME)
def test_losses_and_weights_are_those_of_one_process(root: Path, name: str, case: str) -> None:
    alone, together, tolerance = root / f"1-{case}", root / name, CASES[case].tolerance
    for expected, row in zip(logged(alone), logged(together), strict=True):
        for key in ("step", "trained_tokens", "loss", "gradient_norm", "learning_rate"):
            assert row[key] == pytest.approx(expected[key], abs=tolerance), (row["step"], key)
    expected_weights, weights = (load_file(folder / "weights.safetensors") for folder in (alone, together))
    assert weights.keys() == expected_weights.keys()
    for key, weight in weights.items():
        assert (weight - expected_weights[key]).abs().max() < tolerance, key


@pytest.mark.parametrize("case", ["full", "nf4"])
def test_each_process_keeps_its_shard_of_the_layers(root: Path, case: str) -> None:
    [whole], shares = (
        [int(file.read_text()) for file in sorted((root / f"{n}-{case}").glob("held.*"))] for n in (1, 2)
    )
    assert sum(shares) == whole and max(shares) / whole == pytest.approx(0.5, abs=0.03)


def test_evaluations_are_those_of_one_process(root: Path) -> None:
    alone, together = (logged(root / name, "evaluations.jsonl") for name in ("1-full", "2-then-4"))
    assert [row["step"] for row in alone] == [row["step"] for row in together] == [0, 2, 4]
    for expected, row in zip(alone, together, strict=True):
        assert row["bits_per_byte"] == pytest.approx(expected["bits_per_byte"], abs=1e-5)


def test_dropout_differs_between_processes_and_resumes_to_the_bit(root: Path) -> None:
    alone, whole, resumed = (
        load_file(root / name / "weights.safetensors") for name in ("1-dropout", "2-dropout", "2-then-2")
    )
    assert all(bool((whole[key] == resumed[key]).all()) for key in whole)
    assert max((whole[key] - alone[key]).abs().max() for key in whole) > 1e-4


def test_checkpoints_are_safetensors_and_json_with_a_shard_of_each_process(root: Path) -> None:
    [folder] = (root / "4-killed" / "checkpoints").glob("step-*")  # the one before that which was being written
    shards = sorted(folder.glob("*.safetensors"))
    assert {file.name for file in folder.iterdir()} == {"state.json", *(file.name for file in shards)}
    name = "base_model.model.model.layers.0.mlp.down_proj.lora_A.default.weight"
    rows = [rows_in(shard, name) for shard in shards]
    assert sorted(rows) == [0, 0, 1, 1], "a matrix of two rows lies in two of four shards"


def rows_in(file: Path, name: str) -> int:
    """Rows of a tensor in a file."""
    with safe_open(file, framework="pt") as handle:
        return int(handle.get_slice(name).get_shape()[0]) if name in handle.keys() else 0  # noqa: SIM118


RECIPE = """
name: tiny
precision: float32
device: cpu
base: {{path: {folder}/base}}
prompt: {{pack: plain}}
corpus: {{inputs: [{folder}/corpus.jsonl], block_size: 32}}
mfpt: {{steps: 2, learning_rate: {rate}, warmup_ratio: 0.0, batch_size: 4}}
"""


@pytest.mark.exhaustive
def test_an_error_is_one_line_whichever_process_meets_it(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "base", tmp_path / "base")
    rows = [{"id": str(i), "text": f"ビタミン{i}の欠乏で病気が起こる。Lack of vitamin {i}."} for i in range(20)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (tmp_path / "corpus.jsonl").write_text(lines, encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(folder=tmp_path, rate="1e38"), encoding="utf-8")
    launcher = start(
        "--standalone", "--nproc-per-node", 2, "-m", "jmedllm", "pretrain", recipe, "--output", tmp_path / "run"
    )
    said, code = launcher.communicate(timeout=240)[1], launcher.returncode
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code != 0 and len(errors) == 1 and "lower learning_rate" in errors[0], said
    assert said.count("Traceback") == 1, "torchrun's own, none of ours"
    assert said.count("corpus  done") == 1, "the first process alone tells"


REFUSED = [
    ({"optimizer": "adamw-8bit"}, False, "use adamw"),
    ({"weight_format": "bfloat16-master"}, False, "use weight_format float32"),
    ({}, True, "leave validation.benchmarks out"),
]


@pytest.mark.parametrize(("changes", "exam", "fix"), REFUSED)
def test_settings_that_shards_do_not_support_are_refused_with_the_fix(
    changes: dict[str, Any], exam: bool, fix: str
) -> None:
    settings = TrainingConfig(**{"steps": 1, "learning_rate": 1e-3} | changes)
    with pytest.raises(InputError, match=fix):
        require_shardable(settings, benchmarks=exam)


def test_the_slurm_script_starts_a_launcher_on_each_machine_that_meets_at_the_first(tmp_path: Path) -> None:
    for name, does in (("scontrol", "printf 'node1\\nnode2\\n'"), ("srun", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    job = {
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
        "SLURM_CPUS_PER_TASK": "64",
    }
    environment = os.environ | job | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = [Path(__file__).parents[2] / "examples" / "slurm.sh", "my recipe.yaml"]
    said = subprocess.run(script, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split() == [
        "--cpus-per-task=64",  # since SLURM 22.05 srun does not take it over from sbatch
        *("torchrun", "--nnodes", "2", "--nproc-per-node", "8", "--rdzv-backend", "c10d", "--rdzv-id", "123456"),
        *("--rdzv-endpoint", "node1:23456", "-m", "jmedllm", "run", "my", "recipe.yaml"),
    ]
