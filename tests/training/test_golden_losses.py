"""Losses of ten steps in full precision, which change only if a change of the loop is meant to change them.

`golden_losses.json` contains the losses of both stages on one thread of a CPU with AVX-512 and PyTorch 2.13. Other
processors sum products in another order: with PyTorch's kernels for AVX2 or without vectors, losses differ by at most
1.7e-7 and gradient norms by at most 1.6e-6 (relative). The bounds are ten times as large. The learning rate is low
because Adam turns gradients that are only rounding errors into full steps: at 1e-2 the differences are 8.8e-5 and
1e-3.

To rewrite the figures after an intended change: python tests/training/test_golden_losses.py
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import fit

from jmedllm.training.lora import AdapterConfig, add_adapter

GOLDEN = Path(__file__).with_name("golden_losses.json")
SETTINGS = {
    "steps": 10,
    "learning_rate": 2e-3,
    "batch_size": 4,
    "micro_batch_size": 2,
    "weight_decay": 0.1,
    "max_grad_norm": 0.8,
}
BOUNDS = {"loss": 2e-6, "gradient_norm": 2e-5}
CASES = [f"{stage} {architecture}" for stage in ("mfpt", "mpeft") for architecture in ("qwen2", "llama")]
RENEW = "if that is meant, run `python tests/training/test_golden_losses.py` and say so in the commit"


def network(architecture: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        architecture,
        vocab_size=320,
        hidden_size=32,
        num_hidden_layers=2,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=architecture == "qwen2",
    )
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def ten_steps(case: str, folder: Path, **changes: Any) -> dict[str, list[float]]:
    """Loss and norm of the gradient at each step."""
    stage, architecture = case.split()
    trained = network(architecture)
    if stage == "mpeft":
        trained = add_adapter(trained, AdapterConfig(r=4, alpha=8), seed=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        fit(folder, trained, **SETTINGS | changes)
    finally:
        torch.set_num_threads(threads)
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    return {key: [row[key] for row in rows] for key in BOUNDS}


def golden(case: str) -> dict[str, Any]:
    golden = json.loads(GOLDEN.read_text())[case]
    return {key: pytest.approx(golden[key], rel=bound) for key, bound in BOUNDS.items()}


@pytest.mark.parametrize("case", CASES)
def test_losses_are_what_they_were(case: str, tmp_path: Path) -> None:
    assert ten_steps(case, tmp_path) == golden(case), f"{case}: losses moved; {RENEW}"


@pytest.mark.parametrize(
    "mistake",
    [
        {"learning_rate": 2.002e-3},
        {"weight_decay": 0.0},
        {"betas": (0.9, 0.949)},
        {"max_grad_norm": 0.81},
        {"warmup_ratio": 0.1},
    ],
    ids=str,
)
def test_the_bounds_see_small_mistakes(mistake: dict[str, Any], tmp_path: Path) -> None:
    assert ten_steps("mfpt qwen2", tmp_path, **mistake) != golden("mfpt qwen2")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = {case: ten_steps(case, Path(folder) / case) for case in CASES}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
