"""What the table of architectures trains in one process and in two: run by the test, and by each rank."""

import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

sys.path.append(str(Path(__file__).parents[1] / "training"))

from loops import CPU, rows

from jmedllm.models.layers import freeze_beside_text
from jmedllm.models.loading import load_network
from jmedllm.processes import process_group
from jmedllm.training.config import TrainingConfig
from jmedllm.training.distributed import shard
from jmedllm.training.loop import TrainContext, train
from jmedllm.training.lora import AdapterConfig, add_adapter


def full(network: Any) -> Any:
    freeze_beside_text(network)
    return network


def lora(network: Any) -> Any:
    return add_adapter(network, AdapterConfig(r=2), seed=1)


WAYS = {"full": (full, "recompute"), "lora": (lora, "none")}
"""How a network is trained: what becomes of it, and activation checkpointing."""


def fit(base: Path, way: str, folder: Path) -> None:
    """Train two steps and write the trained weights into the folder."""
    prepare, checkpointing = WAYS[way]
    network, gather = shard(lambda device: prepare(load_network(base, torch.float32, device)), CPU)
    folder.mkdir(parents=True, exist_ok=True)
    settings = TrainingConfig(steps=2, learning_rate=1e-3, batch_size=4, activation_checkpointing=checkpointing)
    train(network, rows(size=48), settings, TrainContext(way, folder, CPU, 3, "same"))
    if (whole := gather()) is not None:
        trained = {name: p.detach().clone() for name, p in whole.named_parameters() if p.requires_grad}
        save_file(trained, folder / "weights.safetensors")


def main(base: Path, root: Path) -> None:
    with process_group():
        for way in WAYS:
            fit(base, way, root / way)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
