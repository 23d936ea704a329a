"""What would fail late fails before step 1, and trying it out leaves no trace."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from loops import CPU, evaluation, fit, rows, same, tiny

from jmedllm.errors import InputError
from jmedllm.training import loop, preflight
from jmedllm.training.loss import split
from jmedllm.training.packing import Blocks
from jmedllm.training.preflight import DiskUsage, require_disk, try_longest_batch


@pytest.mark.parametrize("adapter", [False, True])
def test_training_is_the_same_to_the_bit_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: bool
) -> None:
    tried, not_tried = tiny(adapter=adapter), tiny(adapter=adapter)
    fit(tmp_path / "tried", tried)
    monkeypatch.setattr(loop, "_preflight", lambda *_: None)
    fit(tmp_path / "not", not_tried)
    assert same(tried, not_tried)


def test_the_batch_with_the_most_trained_tokens_is_tried() -> None:
    blocks = rows()
    trained = np.zeros_like(blocks.loss_mask)
    trained[3, 1:20], trained[5, 1:9], trained[1, 1:4] = True, True, True
    seen: list[torch.Tensor] = []
    network = tiny()
    split(network)[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"]), with_kwargs=True
    )
    try_longest_batch(network, Blocks(blocks.ids, blocks.positions, trained), 2, CPU)
    assert np.array_equal(seen[0].numpy(), blocks.ids[[3, 5]])


def fails(number: int, error: Exception) -> Callable[..., None]:
    """A hook that fails from the given call on."""
    calls = 0

    def hook(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls >= number:
            raise error

    return hook


OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            1,
            "memory runs out on a micro-batch of 1 rows of 32 tokens, the largest of this stage; lower",
        ),
        (2, "memory runs out on an evaluation batch of 1 rows of 32 tokens"),
    ],
)
def test_too_little_memory_is_one_line_before_step_1(tmp_path: Path, call: int, message: str) -> None:
    network = tiny()
    split(network)[0].register_forward_pre_hook(fails(call, OOM))
    with pytest.raises(InputError, match=message):
        fit(tmp_path, network, evaluation())
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "changes", "printed"),
    [
        (
            "_measured_step",
            {},
            "memory runs out on step 1; lower micro_batch_size: the run resumes from its checkpoint",
        ),
        ("build", {}, "memory runs out on what the optimizer keeps; `jmedllm plan` says what fits"),
        (
            "offload_layers",
            {"cpu_offload": "layers", "weight_format": "bfloat16-master", "activation_checkpointing": "recompute"},
            "memory runs out on the layers' weights in pinned host memory; `jmedllm plan` says what fits",
        ),
    ],
)
def test_too_little_memory_for_what_is_kept_is_one_line(
    name: str, changes: dict[str, Any], printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OOM

    monkeypatch.setattr(f"jmedllm.training.loop.{name}", fail)
    with pytest.raises(InputError) as error:
        fit(tmp_path, tiny(), **changes)
    assert str(error.value) == printed


def test_another_failure_keeps_its_traceback(tmp_path: Path) -> None:
    network = tiny()
    split(network)[0].register_forward_pre_hook(fails(1, RuntimeError("shapes do not fit")))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        fit(tmp_path, network)


def test_a_disk_too_small_for_the_stage_is_one_line_before_step_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(
        InputError, match=r"the stage \(two checkpoints of .*\) needs 0\.\d\d MiB more on disk, 0\.10 MiB are free"
    ):
        fit(tmp_path, tiny())
    assert not (tmp_path / "metrics.jsonl").exists()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_the_footprint_is_that_of_a_real_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[DiskUsage] = []
    monkeypatch.setattr(loop, "require_disk", lambda _, needed: printed.append(needed))
    fit(tmp_path, tiny())
    [checkpoint] = (tmp_path / "checkpoints").iterdir()
    real = sum(file.stat().st_size for file in checkpoint.iterdir())
    assert printed[0].checkpoint == pytest.approx(real, rel=0.1)  # names and shapes count at this size
    assert printed[0].total == 2 * printed[0].checkpoint + printed[0].model


def test_space_of_existing_files_is_not_needed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=90))
    (tmp_path / "old").write_bytes(b"x" * 20)
    require_disk(tmp_path, DiskUsage(checkpoint=50, model=10, copies_of_model=1))
    with pytest.raises(InputError):
        require_disk(tmp_path, DiskUsage(checkpoint=50, model=11, copies_of_model=1))


def test_a_resumed_run_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(tmp_path, tiny())
    monkeypatch.setattr(loop, "_preflight", lambda *_: pytest.fail("tried again"))
    assert fit(tmp_path, tiny()).resumed_from == 6
