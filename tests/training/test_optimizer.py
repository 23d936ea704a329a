"""AdamW over all formats of weights and moments, beside torch's and bitsandbytes' own, to the last bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loops import WORDS, rows, same, tiny, weights

from jmedllm.errors import InputError
from jmedllm.precision import choose_precision
from jmedllm.training.batches import autocast, learning_rate, micro_batches, rows_of_step
from jmedllm.training.config import TrainingConfig, require_possible
from jmedllm.training.loop import TrainContext, train
from jmedllm.training.loss import summed_loss
from jmedllm.training.optim.build import build
from jmedllm.training.optim.weights import PERIOD, cast_weights, round_stochastically

BF16 = choose_precision("bfloat16", "cpu")
CPU = torch.device("cpu")
RATE = 1e-5


# Rounding


@given(st.floats(width=32, allow_nan=False))
def test_a_number_becomes_one_of_its_two_neighbours(value: float) -> None:
    exact = torch.full((64,), value)
    lower = (exact.view(torch.int32) & -(2**16)).view(torch.float32)  # towards zero
    upper = ((exact.view(torch.int32) & -(2**16)) + 2**16).view(torch.float32)
    rounded = round_stochastically(exact).float()
    if torch.equal(lower, exact):  # exact in bfloat16, including infinities
        assert torch.equal(rounded, exact)
    else:
        assert bool(((rounded == lower) | (rounded == upper)).all())


@pytest.mark.parametrize("value", [0.0123, -0.0123, 1.00001, -3.99999, 1e-30])
def test_the_mean_of_many_roundings_is_the_number(value: float) -> None:
    torch.manual_seed(0)
    exact = torch.full((400_000,), value)
    rounded = round_stochastically(exact).double()
    gap = rounded.max() - rounded.min()
    assert gap > 0
    # Four standard errors of a mean of coin throws.
    assert abs(rounded.mean() - exact[0].double()) < 4 * gap / 2 / PERIOD**0.5


def test_parts_are_rounded_by_the_same_noise_and_each_call_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmedllm.training.optim.weights._PART", {"cpu": 40, "cuda": 40})
    monkeypatch.setattr("jmedllm.training.optim.weights.PERIOD", 20)
    torch.manual_seed(0)
    halves = torch.full((10, 10), 1.0 + 2**-8)  # half of the way
    first, second = round_stochastically(halves), round_stochastically(halves)
    assert first.shape == (10, 10) and 0.2 < (first > 1).float().mean() < 0.8
    assert all(torch.equal(first.view(-1)[:20], first.view(-1)[start : start + 20]) for start in (20, 40, 80))
    assert not torch.equal(first, second)


def one_step_of_a_layer(weight_format: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights as a layer is initialised, before and after one step at 1e-5, which AdamW makes as long for each."""
    torch.manual_seed(0)
    layer = cast_weights(torch.nn.Linear(1000, 1000, bias=False), weight_format)
    with torch.no_grad():
        layer.weight.normal_(0, 0.02)
    before = layer.weight.detach().clone()
    optimizer = build(layer, TrainingConfig(steps=1, learning_rate=RATE, weight_format=weight_format), CPU)
    layer.weight.grad = torch.randn(before.shape)
    optimizer.begin_step(RATE)
    optimizer.step()
    return before, layer.weight.detach()


def test_rounded_to_nearest_a_step_is_lost_and_rounded_at_random_it_is_not() -> None:
    before, after = one_step_of_a_layer("bfloat16-master")  # one step behind a copy is a nearest rounding
    moved = (after != before).float().mean().item()
    realised = (after.double() - before.double()).abs().mean().item() / RATE
    assert moved == pytest.approx(0.156, abs=0.002)
    assert realised == pytest.approx(0.19, abs=0.005)

    before, after = one_step_of_a_layer("bfloat16-stochastic")
    realised = (after.double() - before.double()).abs().mean().item() / RATE
    assert realised == pytest.approx(1, abs=0.047)  # four standard errors of `PERIOD` coin throws


# Steps


def reference_steps(network: Any, settings: TrainingConfig) -> list[torch.Tensor]:
    """The steps of `train` by torch's AdamW on float32 copies, gradients added up and clipped in float32."""
    blocks, trained = rows(), [p for p in network.parameters() if p.requires_grad]
    trained = [p for p in trained if p.dim() >= 2] + [p for p in trained if p.dim() < 2]
    copies = [p.detach().float() for p in trained]
    groups = [
        {"params": [c for c in copies if c.dim() >= 2], "weight_decay": settings.weight_decay},
        {"params": [c for c in copies if c.dim() < 2], "weight_decay": 0.0},
    ]
    theirs = torch.optim.AdamW(groups, betas=settings.betas, fused=True)
    assert settings.steps
    for parameter in trained:
        parameter.grad_dtype = torch.float32  # of a tied weight two gradients meet
    for step in range(settings.steps):
        chosen = rows_of_step(step, settings.batch_size, len(blocks), 3)
        count = int(blocks.loss_mask[chosen].sum())
        for copy in copies:
            copy.grad = torch.zeros_like(copy)
        for batch in micro_batches(blocks, chosen, settings.micro_batch_size, BF16.device):
            with autocast(BF16):
                loss = summed_loss(network, *batch) / count
            loss.backward()
            for copy, parameter in zip(copies, trained, strict=True):
                copy.grad += parameter.grad
                parameter.grad = None
        torch.nn.utils.clip_grad_norm_(copies, settings.max_grad_norm)
        for group in theirs.param_groups:
            group["lr"] = learning_rate(
                step, settings.steps, settings.learning_rate, round(settings.warmup_ratio * settings.steps)
            )
        theirs.step()
        with torch.no_grad():
            for parameter, copy in zip(trained, copies, strict=True):
                parameter.copy_(copy)
    return copies


MASTER = {"weight_format": "bfloat16-master"}
WAYS: dict[str, tuple[bool, dict[str, Any]]] = {
    "float32 weights": (True, {}),
    "copies beside them": (False, MASTER),
    "copies on the host": (False, MASTER | {"cpu_offload": "optimizer"}),
    "copies on the host, head tied": (True, MASTER | {"cpu_offload": "optimizer"}),
    "weights on the host too": (False, MASTER | {"cpu_offload": "layers", "activation_checkpointing": "recompute"}),
}
"""Whether the head is the embedding, and settings."""


@pytest.mark.parametrize("way", WAYS)
def test_training_is_that_of_torch_on_float32_copies(way: str, tmp_path: Path) -> None:
    tied, changes = WAYS[way]
    settings = TrainingConfig(
        steps=15,
        learning_rate=1e-3,
        batch_size=6,
        micro_batch_size=2,
        max_grad_norm=0.5,
        weight_decay=0.1,
        warmup_ratio=0.2,
        **changes,
    )
    start, ours, theirs = (cast_weights(tiny(tied=tied), settings.weight_format) for _ in range(3))
    train(ours, rows(), settings, TrainContext("test", tmp_path, BF16, 3, "x"))
    reference_steps(theirs, settings)
    assert not same(ours, start)
    assert same(ours, theirs)


def test_micro_batches_of_bfloat16_weights_add_up_in_float32() -> None:
    network = cast_weights(tiny(), "bfloat16-stochastic")
    optimizer = build(network, TrainingConfig(steps=1, learning_rate=1e-3, weight_format="bfloat16-stochastic"), CPU)
    blocks = rows()
    for batch in micro_batches(blocks, np.arange(4), 1, BF16.device):
        summed_loss(network, *batch).backward()
    assert {part.weight.grad.dtype for part in optimizer.parts.values()} == {torch.float32}
    assert {part.weight.dtype for part in optimizer.parts.values()} == {torch.bfloat16}


def wide() -> torch.nn.Module:
    """An embedding and layers large enough for moments of 8 bits, and one that is not."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Embedding(100, 64), torch.nn.Linear(64, 100), torch.nn.Linear(100, 70), torch.nn.Linear(70, 2)
    )


def test_8_bit_steps_are_those_of_bitsandbytes() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    ours, theirs = wide(), wide()
    settings = TrainingConfig(steps=1, learning_rate=1e-3, weight_decay=0.1, optimizer="adamw-8bit")
    mine = build(ours, settings, CPU)
    layers = [theirs[1].weight, theirs[2].weight]
    reference = bitsandbytes.optim.AdamW8bit(layers, lr=1e-3, betas=settings.betas, weight_decay=0.1)
    for step in range(5):
        for network in (ours, theirs):
            torch.manual_seed(step)
            for parameter in network.parameters():
                parameter.grad = torch.randn(parameter.shape)
        mine.begin_step(1e-3)
        mine.step()
        reference.step()
    assert torch.equal(ours[1].weight, theirs[1].weight) and torch.equal(ours[2].weight, theirs[2].weight)


def test_embeddings_and_small_parameters_keep_moments_of_32_bits() -> None:
    pytest.importorskip("bitsandbytes")
    state = build(wide(), TrainingConfig(steps=1, learning_rate=1e-3, optimizer="adamw-8bit"), CPU).state()
    formats = {
        name.removesuffix(".exp_avg"): value.dtype for name, value in state.items() if name.endswith(".exp_avg")
    }
    eight = {name for name, dtype in formats.items() if dtype == torch.uint8}
    assert eight == {"1.weight", "2.weight"}
    assert formats["0.weight"] == formats["3.weight"] == formats["1.bias"] == torch.float32


BYTES = {
    ("float32", "adamw"): 4 + 8,
    ("bfloat16-master", "adamw"): 2 + 4 + 8,
    ("bfloat16-stochastic", "adamw"): 2 + 8,
    ("float32", "adamw-8bit"): 4 + 2,
    ("bfloat16-master", "adamw-8bit"): 2 + 4 + 2,
    ("bfloat16-stochastic", "adamw-8bit"): 2 + 2,
}
"""Bytes of a parameter between two steps: the weight and what its optimiser keeps."""


@pytest.mark.parametrize(("weight_format", "optimizer"), BYTES)
def test_a_parameter_takes_as_many_bytes_as_the_docs_say(weight_format: Any, optimizer: Any) -> None:
    layer = cast_weights(torch.nn.Linear(512, 512, bias=False), weight_format)
    settings = TrainingConfig(steps=1, learning_rate=1e-3, weight_format=weight_format, optimizer=optimizer)
    kept = [layer.weight, *build(layer, settings, CPU).state().values()]
    found = sum(tensor.numel() * tensor.element_size() for tensor in kept) / layer.weight.numel()
    assert found == pytest.approx(BYTES[weight_format, optimizer], abs=0.04)  # scales of blocks: 8 bytes in 256


@pytest.mark.parametrize(("weight_format", "optimizer"), BYTES)
def test_all_that_steps_depend_on_is_in_the_state(weight_format: Any, optimizer: Any) -> None:
    settings = TrainingConfig(steps=1, learning_rate=1e-3, weight_format=weight_format, optimizer=optimizer)

    def step(network: Any, optimizer: Any, number: int) -> None:
        torch.manual_seed(number)
        for parameter in network.parameters():
            parameter.grad = torch.randn(parameter.shape)
        optimizer.begin_step(1e-3)
        optimizer.step()

    first, second = (cast_weights(wide(), weight_format) for _ in range(2))
    whole, resumed = build(first, settings, CPU), build(second, settings, CPU)
    step(first, whole, 0)
    with torch.no_grad():
        for one, other in zip(first.parameters(), second.parameters(), strict=True):
            other.copy_(one)
        for name, value in resumed.state().items():
            value.copy_(whole.state()[name])
    for number in (1, 2):
        step(first, whole, number)
        step(second, resumed, number)
    assert same(first, second)


def test_a_parameter_without_a_gradient_stays_as_it_is() -> None:
    network = wide()
    before = weights(network)
    optimizer = build(network, TrainingConfig(steps=1, learning_rate=1e-3, weight_decay=0.5), CPU)
    network[1].weight.grad = torch.ones_like(network[1].weight)
    optimizer.begin_step(1e-3)
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, weights(network), strict=True)]
    assert moved == [False, True, False, False, False, False, False]


# Refusals


def test_weights_in_bfloat16_are_not_multiplied_in_float32() -> None:
    settings = TrainingConfig(steps=1, learning_rate=1e-3, weight_format="bfloat16-stochastic")
    require_possible(settings, "bfloat16")
    with pytest.raises(InputError, match=r"multiplied in float32; set precision: bfloat16 or weight_format"):
        require_possible(settings, "float32")


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmedllm.training.config.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs bitsandbytes; install it with: pip install 'bitsandbytes>="):
        require_possible(TrainingConfig(steps=1, learning_rate=1e-3, optimizer="adamw-8bit"), "float32")


def test_buffers_keep_their_format() -> None:
    network = cast_weights(tiny(vocabulary=WORDS), "bfloat16-stochastic")
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert {b.dtype for b in network.buffers()} == {torch.float32}
