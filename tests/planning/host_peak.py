"""Trains a random model for two steps and prints the bytes that this took beside those that were planned.

Run as a process of its own, so that its peak is that of the training: host_peak.py OFFLOAD OPTIMIZER FOLDER
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jmedllm.planning.counts import PlannedBase
from jmedllm.planning.machine import this_machine
from jmedllm.planning.needs import plan_stage
from jmedllm.precision import Precision
from jmedllm.training.config import TrainingConfig
from jmedllm.training.loop import TrainContext, train
from jmedllm.training.metrics import peak_memory, reset_peak_memory
from jmedllm.training.optim.weights import cast_weights
from jmedllm.training.packing import Blocks

SHAPE = {
    "model_type": "llama",
    "hidden_size": 512,
    "num_hidden_layers": 14,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 1536,
    "vocab_size": 2000,
    "tie_word_embeddings": False,
}
CPU = torch.device("cpu")
TOKENS = 32


def settings_of(offload: str, optimizer: str) -> TrainingConfig:
    return TrainingConfig.model_validate(
        {
            "steps": 2,
            "learning_rate": 1e-4,
            "batch_size": 2,
            "weight_format": "float32" if offload == "none" else "bfloat16-master",
            "activation_checkpointing": "recompute",
            "cpu_offload": offload,
            "optimizer": optimizer,
        }
    )


def main(offload: str, optimizer: str, folder: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    def run(shape: dict[str, Any], into: Path) -> None:
        network = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape), dtype=torch.bfloat16)
        network = cast_weights(network, settings.weight_format)
        train(network, blocks, settings, TrainContext("tested", into, precision, 0, "-"))

    settings, precision = settings_of(offload, optimizer), Precision(CPU, torch.bfloat16, "tested")
    base = PlannedBase("small", json.dumps(SHAPE), torch.bfloat16)
    planned = plan_stage("mfpt", settings, TOKENS, base, this_machine(CPU))
    ids = np.random.default_rng(0).integers(0, 2000, (4, TOKENS)).astype(np.int32)
    blocks = Blocks(ids, np.tile(np.arange(TOKENS, dtype=np.int32), (4, 1)), np.ones((4, TOKENS), np.bool_))
    run(SHAPE | {"hidden_size": 256, "num_hidden_layers": 1}, Path(folder) / "small")  # loads all libraries
    reset_peak_memory(CPU)
    before = peak_memory(CPU)
    run(SHAPE, Path(folder) / "large")
    parts = [part for part in planned.parts if not part.name.startswith("Python")]
    figures = {"measured": peak_memory(CPU) - before, "planned": sum(part.gpu + part.host for part in parts)}
    sys.stdout.write(json.dumps(figures | {part.name: part.gpu + part.host for part in parts}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
