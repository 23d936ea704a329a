"""Speed of packed training on each kind of architecture, compared with one sample per row, as a table.

    python benchmarks/isolation.py

Each architecture trains untrained weights (about 10 M parameters, float32, recomputation off) on the same samples of
30 to 250 tokens: packed into rows of 512 tokens and isolated as `choose_isolation` chose, and as rows with one sample
each, padded to the longest of a batch, which is what trainers without packing do. The batches are sorted by length, so
that little is padded. All ratios are from one run; the value is the median of the passes, forward and backward.
"""

import argparse
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from jmedllm.training.isolation import isolate
from jmedllm.training.loss import summed_loss
from jmedllm.training.packing import Blocks, TrainingSample, pack_examples
from jmedllm.training.trainable import choose_isolation

SIZES = {
    "vocab_size": 8000,
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}
EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2, "intermediate_size": 256}
DELTA = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 4,
    "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt_oss": EXPERTS,
    "qwen3_5_text": {**DELTA, "layer_types": ["linear_attention"] * 3 + ["full_attention"]},
    "lfm2": {"layer_types": ["conv", "conv", "conv", "full_attention"]},
}
BLOCK, ROWS = 512, 4


def main() -> None:
    """Measure all architectures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=7)
    options = parser.parse_args()
    samples = _samples()
    print("| architecture | isolated by | packed, tokens/s | one sample per row, tokens/s | ratio |")
    print("|---|---|---|---|---|")
    for kind, changes in ARCHITECTURES.items():
        network = _network(kind, changes)
        name = choose_isolation(network.config, torch.device("cpu"))
        tokens = sum(len(sample.ids) for sample in samples)
        isolate(network, name)
        packed = _seconds(network, _batches(pack_examples(samples, BLOCK, 0)), options.passes)
        isolate(network, "positions")
        apart = _seconds(network, _one_per_row(samples), options.passes)
        print(
            f"| {kind} | {name} | {tokens / packed:,.0f} | {tokens / apart:,.0f} | {apart / packed:.2f} |", flush=True
        )


def _samples() -> list[TrainingSample]:
    random = np.random.default_rng(0)
    lengths = random.integers(30, 250, 60)
    ids = [random.integers(1, 8000, int(length)).tolist() for length in lengths]
    return [TrainingSample(str(number), each, [True] * len(each)) for number, each in enumerate(ids)]


def _network(kind: str, changes: dict[str, Any]) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES | changes), dtype=torch.float32)
    return network.train()


Batches = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]


def _batches(blocks: Blocks) -> Batches:
    parts = [torch.from_numpy(part).split(ROWS) for part in (blocks.ids, blocks.positions, blocks.loss_mask)]
    return [(ids.long(), positions.long(), mask) for ids, positions, mask in zip(*parts, strict=True)]


def _one_per_row(samples: list[TrainingSample]) -> Batches:
    """Batches of as many tokens as the packed ones have, sorted by length and padded on the right."""
    batches: Batches = []
    ordered = sorted(samples, key=lambda sample: len(sample.ids))
    while ordered:
        width = len(ordered[-1].ids)
        taken = [ordered.pop() for _ in range(min(len(ordered), max(1, ROWS * BLOCK // width)))]
        ids, mask = torch.zeros(len(taken), width, dtype=torch.long), torch.zeros(len(taken), width, dtype=torch.bool)
        for row, sample in enumerate(taken):
            ids[row, : len(sample.ids)], mask[row, 1 : len(sample.ids)] = torch.tensor(sample.ids), True
        batches.append((ids, torch.arange(width).expand(len(taken), -1), mask))
    return batches


def _seconds(network: Any, batches: Batches, passes: int) -> float:
    """Return the median seconds of a pass over all batches, after one pass that is not timed."""
    found = []
    for _ in range(passes + 1):
        began = perf_counter()
        for batch in batches:
            summed_loss(network, *batch).backward()
        network.zero_grad()
        found.append(perf_counter() - began)
    return median(found[1:])


if __name__ == "__main__":
    main()
