"""Gradients, steps and weights in host memory, and steps made during the backward pass."""

import gc
import shutil
import weakref
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import fit, rows, same, tiny

from jmedllm.errors import InputError
from jmedllm.files import read_jsonl
from jmedllm.models.layers import decoder_layers
from jmedllm.precision import choose_precision
from jmedllm.training import memory
from jmedllm.training.batches import micro_batches
from jmedllm.training.config import TrainingConfig
from jmedllm.training.loss import summed_loss
from jmedllm.training.memory import apply_activation_checkpointing
from jmedllm.training.metrics import METRICS
from jmedllm.training.optim import cpu_offload
from jmedllm.training.optim.build import build
from jmedllm.training.optim.cpu_offload import PinnedBuffers
from jmedllm.training.optim.weights import cast_weights

BF16 = choose_precision("bfloat16", "cpu")
CPU = torch.device("cpu")

HOST = {"weight_format": "bfloat16-master", "cpu_offload": "optimizer"}
LAYER_OFFLOAD = HOST | {"cpu_offload": "layers", "activation_checkpointing": "recompute"}
AT_ONCE = {
    "weight_format": "bfloat16-stochastic",
    "optimizer_in_backward": True,
    "max_grad_norm": None,
    "micro_batch_size": 4,
}


def settings_of(**changes: Any) -> TrainingConfig:
    return TrainingConfig(steps=1, learning_rate=1e-3, **changes)


# Pinned buffers


def test_copies_larger_than_the_buffers_arrive_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_offload, "BUFFER_BYTES", 64)
    source = torch.arange(1000, dtype=torch.float32)
    there, back = torch.zeros(1000), torch.zeros(10, 100, dtype=torch.bfloat16)
    buffers = PinnedBuffers(CPU)
    starts: list[int] = []

    def arrived(start: int, part: torch.Tensor) -> None:
        starts.append(start)
        there[start : start + len(part)] = part

    buffers.to_host(source.view(100, 10).T.contiguous().T, arrived)  # like the layout of some gradients
    buffers.wait()
    assert torch.equal(there, source) and starts == list(range(0, 1000, 16))
    buffers.to_device(source, back)
    buffers.wait()
    assert torch.equal(back.view(-1), source.bfloat16())


def test_errors_on_the_host_are_raised_and_free_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_offload, "BUFFERS", 1)
    buffers = PinnedBuffers(CPU)

    def fail(start: int, part: torch.Tensor) -> None:
        raise MemoryError("the host is full")

    buffers.to_host(torch.ones(4), fail)
    with pytest.raises(MemoryError, match="the host is full"):
        buffers.wait()
    found: list[torch.Tensor] = []
    buffers.to_host(torch.ones(4), lambda start, part: found.append(part.clone()))
    buffers.wait()
    assert torch.equal(found[0], torch.ones(4))


# Gradients on the host


def test_no_gradient_stays_on_the_device_and_what_the_host_keeps_is_float32() -> None:
    network = cast_weights(tiny(tied=False), "bfloat16-master")
    optimizer = build(network, settings_of(**HOST), CPU)
    for batch in micro_batches(rows(), torch.arange(4).numpy(), 2, CPU):
        summed_loss(network, *batch).backward()
        assert all(p.grad is None for p in network.parameters())
    optimizer.clip(None)
    assert {part.holder.grad.dtype for part in optimizer.parts.values()} == {torch.float32}
    kept = {key.rpartition(".")[2]: value.dtype for key, value in optimizer.state().items()}
    assert kept == dict.fromkeys(("step", "exp_avg", "exp_avg_sq", "master"), torch.float32)


@pytest.mark.parametrize("changes", [HOST, LAYER_OFFLOAD, AT_ONCE], ids=["host", "offloaded", "at once"])
def test_a_trained_network_keeps_only_its_weights_alive(changes: dict[str, Any], tmp_path: Path) -> None:
    kept: list[weakref.ref[torch.Tensor]] = []

    def note(*arguments: Any) -> Any:
        optimizer = build(*arguments)
        kept.extend(weakref.ref(tensor) for tensor in optimizer.state().values())
        return optimizer

    network = cast_weights(tiny(tied=False), changes["weight_format"])
    gc.disable()  # objects that only a collection frees are in memory while the model is written
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("jmedllm.training.loop.build", note)
            fit(tmp_path, network, precision=BF16, **changes)
        assert len(kept) > 50 and not [each for each in kept if each() is not None]
    finally:
        gc.enable()


@pytest.mark.parametrize("optimizer", ["adamw-bf16", "adamw-8bit"])
def test_smaller_moments_on_the_host_train_too(optimizer: str, tmp_path: Path) -> None:
    if optimizer == "adamw-8bit":
        pytest.importorskip("bitsandbytes")
    exact, smaller = (cast_weights(tiny(hidden_size=64, tied=False), "bfloat16-master") for _ in range(2))
    changes = HOST | {"steps": 20, "learning_rate": 3e-3}
    reference = fit(tmp_path / "a", exact, precision=BF16, **changes).final_loss
    found = fit(tmp_path / "b", smaller, precision=BF16, **changes, optimizer=optimizer).final_loss
    assert not same(exact, smaller) and found == pytest.approx(reference, rel=0.02)


def test_moments_in_bfloat16_keep_the_mean_of_what_is_rounded() -> None:
    """Rounded to nearest, a second moment of 1 that gradients of zero take a thousandth off stays 1 for ever."""
    layer = torch.nn.Linear(128, 128, bias=False)
    optimizer = build(layer, settings_of(optimizer="adamw-bf16", betas=(0.9, 0.999)), CPU)
    moment = optimizer.state()["weight.exp_avg_sq"]
    moment.fill_(1.0)
    torch.manual_seed(0)
    for _ in range(100):
        layer.weight.grad = torch.zeros_like(layer.weight)
        optimizer.begin_step(0.0)
        optimizer.step()
    assert moment.dtype == torch.bfloat16 and moment.float().mean().item() == pytest.approx(0.999**100, abs=0.002)


# Layers that are fetched


def test_at_most_three_layers_are_on_the_device_and_none_between_passes() -> None:
    network = cast_weights(tiny(layers=6, tied=False), "bfloat16-master")
    at_home = {p.data_ptr() for p in network.parameters()}
    layers = decoder_layers(network)
    stored: list[int] = []
    made: list[torch.Tensor] = []

    apply_activation_checkpointing(network.train(), "recompute")
    memory.offload_layers(network, CPU)
    for layer in layers:
        layer.self_attn.register_forward_pre_hook(
            lambda *_: stored.append(sum(each.mlp.up_proj.weight.data_ptr() not in at_home for each in layers))
        )
        layer.mlp.up_proj.weight.register_post_accumulate_grad_hook(lambda p: made.append(p.grad))
    batch = next(micro_batches(rows(), torch.arange(2).numpy(), 2, CPU))
    summed_loss(network, *batch).backward()
    # One computes, and when the next begins, forwards or backwards, all of the one before is home again.
    assert stored == [1] * 12 and len(made) == 6
    assert {p.data_ptr() for p in network.parameters()} == at_home


def test_a_fetched_layer_has_the_weights_of_the_previous_step(tmp_path: Path) -> None:
    """Evaluated between steps, the network gives what one that never streams gives."""
    offloaded, plain = (cast_weights(tiny(layers=3, tied=False), "bfloat16-master") for _ in range(2))
    fit(tmp_path / "a", offloaded, precision=BF16, **LAYER_OFFLOAD, micro_batch_size=2)
    fit(tmp_path / "b", plain, precision=BF16, **HOST, activation_checkpointing="recompute", micro_batch_size=2)
    assert same(offloaded, plain)
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        assert torch.equal(offloaded(ids).logits, plain(ids).logits)


@pytest.mark.parametrize("size", [2**12, 2**16])
def test_pinned_blocks_contain_the_same_weights_without_overlap(size: int) -> None:
    network, plain = (cast_weights(tiny(tied=False), "bfloat16-master") for _ in range(2))
    parameters = list(network.parameters())
    memory._pin(parameters, size, pinned=False)
    assert same(network, plain)
    places = sorted((p.data_ptr(), p.data_ptr() + p.nbytes) for p in parameters)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))
    blocks = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in parameters}
    assert sum(blocks.values()) <= sum(p.nbytes for p in parameters) * 1.5 + size


# Steps in the backward pass


@pytest.mark.parametrize("weight_format", ["float32", "bfloat16-master"])
def test_steps_in_the_backward_pass_are_the_steps_after_it(weight_format: str, tmp_path: Path) -> None:
    at_once, after = (cast_weights(tiny(), weight_format) for _ in range(2))
    changes = AT_ONCE | {"weight_format": weight_format, "steps": 10}
    one = fit(tmp_path / "a", at_once, precision=BF16, **changes)
    other = fit(tmp_path / "b", after, precision=BF16, **changes | {"optimizer_in_backward": False})
    assert same(at_once, after) and one.final_loss == other.final_loss
    first, second = ([row["gradient_norm"] for _, row in read_jsonl(tmp_path / run / METRICS)] for run in "ab")
    assert first == pytest.approx(second, rel=1e-5)


def test_no_two_gradients_exist_at_once() -> None:
    network = cast_weights(tiny(), "bfloat16-stochastic")
    most = 0

    def count(_: torch.Tensor) -> None:
        nonlocal most
        most = max(most, sum(p.grad is not None for p in network.parameters()))

    for parameter in network.parameters():
        parameter.register_post_accumulate_grad_hook(count)
    optimizer = build(network, settings_of(**AT_ONCE, batch_size=4), CPU)
    before = [p.detach().clone() for p in network.parameters()]
    batch = next(micro_batches(rows(), torch.arange(4).numpy(), 4, CPU))
    summed_loss(network, *batch).backward()  # of no step: nothing moves
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    optimizer.begin_step(1e-2)
    summed_loss(network, *batch).backward()
    assert most == 1 and not all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


# Resuming after a kill


@pytest.mark.parametrize(
    "changes",
    [HOST, HOST | {"optimizer": "adamw-bf16"}, LAYER_OFFLOAD, AT_ONCE],
    ids=["on the host", "with moments in bfloat16", "offloaded", "in the backward pass"],
)
def test_a_killed_run_resumes_to_the_same_weights(changes: dict[str, Any], tmp_path: Path) -> None:
    def fresh() -> Any:
        return cast_weights(tiny(tied=False), changes["weight_format"])

    whole, killed, resumed = fresh(), fresh(), fresh()
    fit(tmp_path / "whole", whole, precision=BF16, **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jmedllm.training.loop.learning_rate", _until(5))
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "killed", killed, precision=BF16, **changes)
    shutil.copytree(tmp_path / "killed", tmp_path / "resumed")
    trained = fit(tmp_path / "resumed", resumed, precision=BF16, **changes)
    assert trained.resumed_from == 4 and same(whole, resumed)
    logs = [(tmp_path / run / "metrics.jsonl").read_text().count("\n") for run in ("whole", "resumed")]
    assert logs == [6, 6]


def test_an_offloaded_run_resumes(tmp_path: Path) -> None:
    whole, begun, moved = (cast_weights(tiny(tied=False), "bfloat16-master") for _ in range(3))
    plain: dict[str, Any] = {"weight_format": "bfloat16-master", "precision": BF16}
    fit(tmp_path / "whole", whole, **plain)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jmedllm.training.loop.learning_rate", _until(3))
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "begun", begun, **plain)
    assert fit(tmp_path / "begun", moved, precision=BF16, **LAYER_OFFLOAD).resumed_from == 2
    assert same(whole, moved)


def _until(step: int) -> Any:
    from jmedllm.training.batches import learning_rate

    def rate(at: int, *rest: Any) -> float:
        if at == step:
            raise KeyboardInterrupt
        return learning_rate(at, *rest)

    return rate


# Refusals

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "offload of float32 weights": (
        {"cpu_offload": "optimizer"},
        "cpu_offload steps float32 copies of the weights in host memory; set weight_format: bfloat16-master",
    ),
    "layer offload that keeps activations": (
        {"cpu_offload": "layers", "weight_format": "bfloat16-master"},
        "cpu_offload: layers fetches a layer again .* set activation_checkpointing: recompute",
    ),
    "clipping what is used up": (
        {"optimizer_in_backward": True},
        "before the norm of all is known; set max_grad_norm: null",
    ),
    "adding up what is used up": (
        {"optimizer_in_backward": True, "max_grad_norm": None, "batch_size": 8},
        "cannot add up micro-batches; set micro_batch_size to 8, as batch_size, or lower batch_size",
    ),
    "steps in two places": (
        AT_ONCE | {"batch_size": 4, "cpu_offload": "optimizer", "weight_format": "bfloat16-master"},
        "optimizer_in_backward steps where the weights are; set cpu_offload: none",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_contradict_one_another_are_refused(case: str) -> None:
    changes, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        settings_of(**changes)


def test_several_processes_are_refused() -> None:
    from jmedllm.training.config import require_shardable

    for changes in (HOST, AT_ONCE | {"batch_size": 4, "weight_format": "float32"}):
        with pytest.raises(InputError, match="cpu_offload and optimizer_in_backward need one process"):
            require_shardable(settings_of(**changes), benchmarks=False)
