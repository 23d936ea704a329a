"""Every step is measured, whole lines only, and the example that is shown is the one that is trained."""

import json
import os
import re
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from loops import evaluation, fit, tiny
from rich.console import Console

from jmedllm.errors import InputError
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.training import checkpoint, loop
from jmedllm.training.batches import rows_of_step
from jmedllm.training.loss import split
from jmedllm.training.metrics import MetricsLog, Stopwatch, peak_memory, progress_note
from jmedllm.training.packing import TrainingSample, pack_examples
from jmedllm.training.preflight import describe_mask, preview_example

KEYS = [
    "step",
    "trained_tokens",
    "loss",
    "gradient_norm",
    "learning_rate",
    "tokens_per_second",
    "waiting",
    "peak_memory",
    "seconds",
]


def test_every_step_is_measured(tmp_path: Path) -> None:
    fit(tmp_path, tiny())
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [list(row) for row in rows] == [KEYS] * 6
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for before, after in pairwise(rows):
        assert after["trained_tokens"] > before["trained_tokens"] and after["seconds"] >= before["seconds"]
    for row in rows:
        assert 0 <= row["waiting"] < 1 and row["tokens_per_second"] > 0
        assert 2**20 < row["peak_memory"] < 2**40


def test_seconds_go_on_where_a_run_is_resumed(tmp_path: Path) -> None:
    fit(tmp_path, tiny(), steps=4)
    path = tmp_path / "metrics.jsonl"
    rows = [json.loads(line) | {"seconds": 1000.0} for line in path.open()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    fit(tmp_path, tiny(), steps=6)
    assert [json.loads(line)["seconds"] for line in path.open()][-1] > 1000


def test_a_log_drops_what_a_resumed_run_does_again(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "torn')
    seen: list[object] = []
    with MetricsLog(path, 2, seen.append) as log:
        assert log.has(2) and not log.has(3)
        log.add({"step": 3, "loss": 1.5})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3, "loss": 1.5}\n'
    assert seen == [{"step": 3, "loss": 1.5}]


@pytest.mark.skipif(not Path("/dev/full").exists() or not Path("/proc/self/fd").exists(), reason="only on Linux")
@pytest.mark.parametrize("name", ["metrics.jsonl", "evaluations.jsonl", "tensorboard/events"])
def test_a_disk_that_fills_up_in_the_middle_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    pytest.importorskip("tensorboard")

    def fill(*_: object) -> None:
        for descriptor in Path("/proc/self/fd").iterdir():
            if os.path.realpath(descriptor).startswith(f"{tmp_path}/{name}"):
                with Path("/dev/full").open("wb") as full:
                    os.dup2(full.fileno(), int(descriptor.name))

    network = tiny()
    split(network)[0].register_forward_pre_hook(fill)
    with pytest.raises(InputError, match=f"cannot write {tmp_path}/{name}.*: No space left on device; free space"):
        fit(tmp_path, network, evaluation(), tensorboard=True)
    assert "Traceback" not in capfd.readouterr().err


def test_a_checkpoint_is_never_ahead_of_its_logs_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: dict[int, int] = {}
    save, fsync = checkpoint.save, os.fsync

    def noted(descriptor: int) -> None:
        found = os.fstat(descriptor)
        synced[found.st_ino] = found.st_size
        fsync(descriptor)

    def check(folder: Path, *arguments: object) -> None:
        if folder.name == "checkpoints":
            logs = [(tmp_path / name).stat() for name in ("metrics.jsonl", "evaluations.jsonl")]
            assert [synced[log.st_ino] for log in logs] == [log.st_size for log in logs]
        save(folder, *arguments)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(checkpoint, "save", check)
    fit(tmp_path, tiny(), evaluation())


def test_waiting_is_the_time_that_items_take_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0

    def wait(seconds: int) -> None:
        nonlocal now
        now += seconds

    def slow() -> object:
        for item in range(3):
            wait(10)
            yield item

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    watch = Stopwatch()
    for _ in watch.waits(slow()):
        wait(20)
    assert watch.seconds == 30


def test_choosing_the_rows_is_waiting_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, passed = time.perf_counter, 0

    def slow(*arguments: int) -> object:
        nonlocal passed
        passed += 1000
        return rows_of_step(*arguments)

    monkeypatch.setattr(loop, "rows_of_step", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + passed)
    fit(tmp_path, tiny(), steps=2)
    last = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()][-1]
    assert last["waiting"] > 0.5


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only on Linux")
def test_peak_memory_is_that_of_the_stage(tmp_path: Path) -> None:
    block = torch.ones(2**28 // 4)
    before = peak_memory(torch.device("cpu"))
    del block
    fit(tmp_path, tiny(), steps=2)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert max(row["peak_memory"] for row in rows) < before - 2**27


def test_memory_of_a_cpu_is_that_of_the_process() -> None:
    before = peak_memory(torch.device("cpu"))
    block = torch.ones(2**26 // 4)
    assert peak_memory(torch.device("cpu")) >= before
    assert before > 2**26 and block.sum() == 2**24


def test_the_note_has_loss_bits_speed_and_memory() -> None:
    row = {"loss": 2.3456, "tokens_per_second": 12345.6, "peak_memory": 3 * 2**30}
    evaluations = [{"bits_per_byte": {"ja": 0.91234, "general": 0.8}, "accuracy": {"demo.ja": 0.42}}]
    assert progress_note(row, []) == "loss 2.346  12,346 tokens/s  3.0 GiB"
    assert progress_note(row | {"tokens_per_second": 0.34}, []) == "loss 2.346  0.3 tokens/s  3.0 GiB"
    assert progress_note(row, evaluations) == (
        "loss 2.346  bits/byte ja 0.912 general 0.800  demo.ja 42 %  12,346 tokens/s  3.0 GiB"
    )


def test_tensorboard_gets_the_same_numbers(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fit(tmp_path, tiny(), evaluation(), steps=3, tensorboard=True, early_stopping={"every": 2})
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {*KEYS, "bits_per_byte/ja", "bits_per_byte/en"} - {"step"}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(r["step"], pytest.approx(r["loss"])) for r in rows]
    assert [event.step for event in events.Scalars("bits_per_byte/ja")] == [0, 2, 3]


def test_tensorboard_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    with pytest.raises(InputError, match=r"pip install 'tensorboard>="):
        fit(tmp_path, tiny(), tensorboard=True)


def presented(tiny_model: Path, folder: Path, text: bool = False) -> Console:
    """What is printed of an example with a prompt and an answer."""
    tokenizer = load_tokenizer(tiny_model)
    prompt, answer = (tokenizer(text)["input_ids"] for text in ("ビタミンCの欠乏で", "壊血病になる。"))
    ids = [*prompt, *answer, tokenizer.eos_token_id]
    trained = [False] * len(prompt) + [True] * (len(answer) + 1)
    other = TrainingSample("other", [7, 8, 9], [False, True, True])
    blocks = pack_examples([TrainingSample("first", ids, trained), other], 64, tokenizer.pad_token_id)
    console = Console(record=True, width=100, file=(folder / "shown").open("w"), force_terminal=True)
    preview_example(tokenizer, blocks, "mpeft", console, text=text)
    return console


def test_the_example_shows_what_is_trained(tiny_model: Path, tmp_path: Path) -> None:
    console = presented(tiny_model, tmp_path, text=True)
    styled = console.export_text(styles=True, clear=False)
    assert console.export_text().splitlines()[1].rstrip() == ("ビタミンCの欠乏で⟦壊血病になる。<|endoftext|>⟧")
    assert "\x1b[2mビタミン" in styled and "\x1b[32m⟦壊血病" in styled


def test_the_text_of_an_example_stays_out_of_logs(tiny_model: Path, tmp_path: Path) -> None:
    message = presented(tiny_model, tmp_path).export_text()
    assert re.fullmatch(
        r"mpeft: the first example: (\d+) tokens, (\d+) trained; in order: \d+ untrained, \2 trained\n", message
    )


def test_a_mask_of_many_turns_is_summarized() -> None:
    message = describe_mask([False, False, True] * 9)
    assert message.startswith("27 tokens, 9 trained; in order: 2 untrained, 1 trained, 2 untrained")
    assert message.endswith("10 runs more")
