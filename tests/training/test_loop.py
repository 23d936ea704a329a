"""What the training loop guarantees, on a model small enough to check them to the last digit."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from jmedllm.errors import InputError
from jmedllm.precision import choose_precision
from jmedllm.progress import notice
from jmedllm.training.config import TrainingConfig
from jmedllm.training.loop import TrainContext, train
from jmedllm.training.lora import AdapterConfig, add_adapter
from jmedllm.training.loss import split, summed_loss
from jmedllm.training.packing import Blocks, TrainingSample, pack_documents, pack_examples

CPU = choose_precision("float32", "cpu")
VOCABULARY = 300


def tiny(architecture: str = "qwen2", seed: int = 0) -> Any:
    from transformers import AutoModelForCausalLM

    from jmedllm.models.random_init import RandomInit, _config

    torch.manual_seed(seed)
    shape = RandomInit(architecture=architecture, vocabulary=320, hidden_size=16, layers=2, feed_forward=32)
    return AutoModelForCausalLM.from_config(_config(shape, Words()), dtype=torch.float32)


class Words:
    """As much of a tokenizer as a model's configuration asks for."""

    bos_token_id, eos_token_id, pad_token_id = None, 0, 0

    def __len__(self) -> int:
        return 320


def samples(n: int, seed: int = 0) -> list[TrainingSample]:
    random = np.random.default_rng(seed)
    lengths = random.integers(3, 20, n)
    return [
        TrainingSample(f"s{i}", random.integers(1, VOCABULARY, length).tolist(), [False] + [True] * (int(length) - 1))
        for i, length in enumerate(lengths)
    ]


def tensors(blocks: Blocks) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.from_numpy(blocks.ids).long(),
        torch.from_numpy(blocks.positions).long(),
        torch.from_numpy(blocks.loss_mask),
    )


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_packed_samples_do_not_see_one_another(architecture: str) -> None:
    network = tiny(architecture).eval()
    first, second = [5, 6, 7, 8, 9], [11, 12, 13]
    blocks = pack_examples([TrainingSample("a", first, [True] * 5), TrainingSample("b", second, [True] * 3)], 8, 0)
    ids, positions, _ = tensors(blocks)
    decoder, head = split(network)
    with torch.no_grad():
        packed = head(decoder(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state)
        alone = network(torch.tensor([second])).logits
    assert torch.allclose(packed[0, 5:], alone[0], atol=1e-5)


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_chunked_loss_equals_the_plain_one_with_its_gradients(architecture: str) -> None:
    network = tiny(architecture)
    ids, positions, trained = tensors(pack_documents(samples(60), 64, 0))
    loss = summed_loss(network, ids, positions, trained)
    loss.backward()
    gradients = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()
    logits = network(ids, position_ids=positions, use_cache=False).logits[:, :-1]
    plain = cross_entropy(logits[trained[:, 1:]], ids[:, 1:][trained[:, 1:]], reduction="sum")
    plain.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-6)
    assert len(trained[:, 1:].nonzero()) > 512  # more than two chunks
    for gradient, parameter in zip(gradients, network.parameters(), strict=True):
        assert torch.allclose(gradient, parameter.grad, rtol=1e-4, atol=1e-5)


def weights(network: Any) -> list[torch.Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def run(folder: Path, network: Any, **changes: Any) -> Any:
    settings = {"steps": 6, "learning_rate": 1e-3, "batch_size": 4, "save_steps": 2} | changes
    blocks = pack_documents(samples(40), 32, 0)
    return train(network, blocks, TrainingConfig(**settings), TrainContext("test", folder, CPU, 3, "same"))


def test_four_micro_batches_equal_one(tmp_path: Path) -> None:
    one, four = tiny(), tiny()
    run(tmp_path / "one", one, micro_batch_size=4)
    run(tmp_path / "four", four, micro_batch_size=1)
    for a, b in zip(weights(one), weights(four), strict=True):
        assert torch.allclose(a, b, atol=2e-6)


def test_activation_checkpointing_changes_nothing(tmp_path: Path) -> None:
    plain, recomputed = tiny(), tiny()
    run(tmp_path / "plain", plain)
    run(tmp_path / "recomputed", recomputed, activation_checkpointing="recompute")
    for a, b in zip(weights(plain), weights(recomputed), strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_row_without_a_trained_token_is_no_stumbling_block(tmp_path: Path) -> None:
    full = TrainingSample("full", [5] * 32, [False] + [True] * 31)
    blocks = pack_documents([full, TrainingSample("lone", [6], [False])], 32, 0)
    assert blocks.loss_mask.sum(axis=1).tolist() == [31, 0]
    settings = TrainingConfig(steps=2, learning_rate=1e-3, batch_size=2, micro_batch_size=1)
    result = train(tiny(), blocks, settings, TrainContext("test", tmp_path, CPU, 0, "x"))
    assert result.trained_tokens == 62


def test_training_that_explodes_is_an_error_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lower learning_rate"):
        run(tmp_path, tiny(), learning_rate=1e38, warmup_ratio=0.0, save_steps=1)
    assert not list(tmp_path.glob("checkpoints/step-*"))


def test_a_torn_line_of_metrics_is_cut_off(tmp_path: Path) -> None:
    run(tmp_path, tiny(), steps=4)
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 5, "lo')
    assert run(tmp_path, tiny(), steps=4).resumed_from == 4
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("stage", ["full", "adapter"])
def test_resume_is_exact_to_the_bit(tmp_path: Path, stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    notice.cache_clear()  # it prints each line once

    def fresh() -> Any:
        network = tiny()
        return network if stage == "full" else add_adapter(network, AdapterConfig(r=4, dropout=0.2), seed=1)

    whole, stopped, resumed = fresh(), fresh(), fresh()
    run(tmp_path / "whole", whole)
    split(stopped)[0].register_forward_pre_hook(fail_at_call(25))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", stopped)
    result = run(tmp_path / "stopped", resumed)
    assert result.resumed_from == 4
    assert f"note: test resumes from step 4 of {result.steps}\n" in capsys.readouterr().err
    for a, b in zip(weights(whole), weights(resumed), strict=True):
        assert torch.equal(a, b)
    metrics = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "stopped")]
    assert [strip_speed(line) for line in metrics[0]] == [strip_speed(line) for line in metrics[1]]


# How a checkpoint is broken: what the error says of it
TENSORS = "tensors-00000.safetensors"
DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "half a file": (
        lambda step: os.truncate(step / TENSORS, 5000),
        "step-00000004/tensors-00000.safetensors: cannot be read: ",
    ),
    "no tensors": (
        lambda step: (step / TENSORS).unlink(),
        "step-00000004: lacks model.embed_tokens",
    ),
    "other tensors": (
        lambda step: save_file({"model.embed_tokens.weight": torch.zeros(2, 2)}, step / TENSORS),
        "step-00000004: lacks model.embed_tokens",
    ),
    "half a tensor": (
        lambda step: save_file(
            {"model.norm.weight": torch.zeros(8)},
            step / TENSORS,
            {"DCP_SHARDING_INFO": '{"model.norm.weight": {"saved_offsets": [8]}}'},
        ),
        "step-00000004: lacks a part of model.norm.weight",
    ),
    "no state": (lambda step: (step / "state.json").unlink(), "step-00000004/state.json: no such file"),
    "an empty state": (
        lambda step: os.truncate(step / "state.json", 0),
        "step-00000004/state.json:1: broken JSON",
    ),
    "a strange state": (
        lambda step: (step / "state.json").write_text("[]"),
        "step-00000004/state.json: lacks step",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_reported_with_the_fix(tmp_path: Path, damage: str) -> None:
    run(tmp_path, tiny(), steps=4)
    step = tmp_path / "checkpoints" / "step-00000004"
    harm, message = DAMAGES[damage]
    harm(step)
    with pytest.raises(InputError) as error:
        run(tmp_path, tiny())
    printed = str(error.value)
    assert message in printed and printed.startswith("checkpoint is damaged: ") and "\n" not in printed
    assert printed.endswith(f"; remove {step}: the run then resumes from the previous one, or from the start")
    shutil.rmtree(step)
    assert run(tmp_path, tiny()).resumed_from == 0


def fail_at_call(number: int) -> Any:
    """A hook that interrupts; the first check calls the decoder three times, the dry run once, a step four."""
    calls = 0

    def hook(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KeyboardInterrupt

    return hook


def strip_speed(line: str) -> str:
    return line.partition(', "tokens_per_second"')[0]
