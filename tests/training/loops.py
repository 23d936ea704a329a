"""A network, rows and a tokenizer small enough to train in a test."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from jmedllm.precision import Precision, choose_precision
from jmedllm.training.config import TrainingConfig
from jmedllm.training.loop import TrainContext, TrainResult, train
from jmedllm.training.lora import AdapterConfig, add_adapter
from jmedllm.training.packing import Blocks, TrainingSample, pack_documents
from jmedllm.training.validation import TextSet, Validation

CPU = choose_precision("float32", "cpu")
WORDS = 300


def tiny(
    *, adapter: bool = False, vocabulary: int = 320, hidden_size: int = 16, layers: int = 2, tied: bool = True
) -> Any:
    """A Qwen2-shaped network; with an adapter, one with dropout."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=vocabulary,
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=tied,
    )
    network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return add_adapter(network, AdapterConfig(r=4, dropout=0.2), seed=1) if adapter else network


def rows(n: int = 40, seed: int = 0, size: int = 32) -> Blocks:
    random = np.random.default_rng(seed)
    samples = [
        TrainingSample(f"s{i}", random.integers(1, WORDS, length).tolist(), [False] + [True] * (int(length) - 1))
        for i, length in enumerate(random.integers(3, 20, n))
    ]
    return pack_documents(samples, size, 0)


def evaluation(seed: int = 7) -> Validation:
    """Two sets of random rows, one byte a token."""
    sets = {name: rows(6, seed + number) for number, name in enumerate(("ja", "en"))}
    return Validation({name: TextSet(each, 6, int(each.loss_mask.sum())) for name, each in sets.items()})


def fit(
    folder: Path, network: Any, evaluated: Validation | None = None, *, precision: Precision = CPU, **changes: Any
) -> TrainResult:
    settings = {"steps": 6, "learning_rate": 1e-3, "batch_size": 4, "save_steps": 2} | changes
    context = TrainContext("test", folder, precision, 3, "same", evaluated)
    return train(network, rows(), TrainingConfig(**settings), context)


def weights(network: Any) -> list[torch.Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def same(first: Any, second: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))
