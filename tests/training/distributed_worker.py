"""What test_distributed.py trains: in its own process, and in several that torchrun starts with this file."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from loops import CPU, evaluation, rows
from safetensors.torch import save_file

from jmedllm.models.loading import load_network
from jmedllm.precision import Precision, choose_precision
from jmedllm.processes import process_group, rank
from jmedllm.training import checkpoint
from jmedllm.training.checkpoint import write_tensors
from jmedllm.training.config import TrainingConfig
from jmedllm.training.distributed import local_shard, shard
from jmedllm.training.loop import TrainContext, train
from jmedllm.training.lora import AdapterConfig, add_adapter, to_plain_lora
from jmedllm.training.memory import offload_embedding

BFLOAT16 = choose_precision("bfloat16", "cpu")
STEPS, SAVED_EVERY = 4, 2


@dataclass(frozen=True)
class Case:
    """A way to train. Rows of a step and ranks of adapters are chosen not to fit the number of processes."""

    architecture: str = "qwen2"
    adapter: AdapterConfig | None = None
    precision: Precision = CPU
    is_evaluated: bool = False
    tolerance: float = 1e-5
    settings: dict[str, Any] = field(default_factory=dict)
    embedding: str = "device"


CASES = {
    "full": Case(
        settings={"batch_size": 3, "early_stopping": {"every": 2, "metric": ["bits_per_byte.ja"]}}, is_evaluated=True
    ),
    "llama": Case("llama", settings={"batch_size": 5, "micro_batch_size": 2, "activation_checkpointing": "recompute"}),
    "bfloat16": Case(precision=BFLOAT16, tolerance=5e-3, is_evaluated=True),
    "lora": Case(adapter=AdapterConfig(r=2), settings={"batch_size": 3}),
    "dora": Case(
        adapter=AdapterConfig(r=3, kind="dora"), settings={"batch_size": 2, "activation_checkpointing": "recompute"}
    ),
    "pissa": Case(adapter=AdapterConfig(r=3, kind="pissa")),
    "dropout": Case(adapter=AdapterConfig(r=2, dropout=0.3)),
    "nf4": Case(adapter=AdapterConfig(r=3, quantization="nf4"), settings={"batch_size": 3}),
    "host": Case("llama", adapter=AdapterConfig(r=2), embedding="host"),
    "nf4-dora": Case(  # 4-bit layers multiply in bfloat16
        adapter=AdapterConfig(r=2, kind="dora", quantization="nf4"),
        settings={"activation_checkpointing": "recompute"},
        tolerance=1e-3,
    ),
}


def build(case: Case, base: Path) -> Any:
    """A network drawn from a seed; one in 4 bits is that of the model directory `base`."""
    if case.adapter and case.adapter.quantization == "nf4":
        return add_adapter(load_network(base, torch.float32, CPU.device, quantization="nf4"), case.adapter, seed=1)
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        case.architecture,
        vocab_size=320,
        hidden_size=16,
        num_hidden_layers=2,
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=case.architecture == "qwen2",
    )
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if case.adapter:
        network = add_adapter(network, case.adapter, seed=1)
    return offload_embedding(network) if case.embedding == "host" else network


def fit(case: Case, folder: Path) -> None:
    """Train a case in a folder, resuming from its checkpoints, and write the trained weights to it."""
    network, gather = shard(lambda device: build(case, folder.parent / "base"), case.precision)
    folder.mkdir(exist_ok=True)
    kept = sum(local_shard(p).nbytes for name, p in network.named_parameters() if ".layers." in name)
    (folder / f"held.{rank().global_rank}").write_text(str(kept))
    settings = {"steps": STEPS, "learning_rate": 1e-3, "batch_size": 4, "save_steps": SAVED_EVERY} | case.settings
    validation = evaluation() if case.is_evaluated else None
    context = TrainContext("test", folder, case.precision, 3, "same", validation)
    train(network, rows(), TrainingConfig(**settings), context)
    whole = gather()
    if whole is not None:
        plain = to_plain_lora(whole) if case.adapter else whole
        trained = {
            name: p.detach().clone() for name, p in plain.named_parameters() if "lora" in name or not case.adapter
        }
        save_file(trained, folder / "weights.safetensors")


class StopError(Exception):
    """Training ends without a last word."""


@contextmanager
def stopped() -> Iterator[None]:
    """Stop right after the first checkpoint."""
    save = checkpoint.save

    def save_and_stop(folder: Path, network: Any, optimizer: Any, done: checkpoint.Progress, *rest: Any) -> None:
        save(folder, network, optimizer, done, *rest)
        if done.step == SAVED_EVERY:
            raise StopError

    with patch("jmedllm.training.checkpoint.save", save_and_stop), suppress(StopError):
        yield


@contextmanager
def killed() -> Iterator[None]:
    """Kill the last process when the last checkpoint is written, but has not taken its place."""

    def write_and_kill(tensors: Any, folder: Path) -> None:
        write_tensors(tensors, folder)
        if f"step-{STEPS:08d}" in folder.name and rank().global_rank == rank().world_size - 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with patch("jmedllm.training.checkpoint.write_tensors", write_and_kill):
        yield


ENDS = {"stopped": stopped, "killed": killed}


def main(root: Path, jobs: list[str]) -> None:
    """Each context is a folder below `root` and a case, and maybe how it ends before its time: stopped or killed."""
    with process_group():
        for context in jobs:
            folder, name, *ends = context.split(":")
            with ENDS[ends[0]]() if ends else nullcontext():
                fit(CASES[name], root / folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
