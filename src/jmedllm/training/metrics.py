"""Metrics of each step, in `metrics.jsonl` and optionally for TensorBoard."""

import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import torch

from jmedllm.errors import not_installed
from jmedllm.files import cut_unfinished_line, make_folder, open_private, read_jsonl, to_json, unwritable, write_jsonl
from jmedllm.processes import broadcast_from_rank0, is_main_process

METRICS, EVALUATIONS = "metrics.jsonl", "evaluations.jsonl"

Row = dict[str, Any]

Add = Callable[[Row], None]
"""Called with each row of a log."""

T = TypeVar("T")


class MetricsLog:
    """A JSON Lines file that a resumed run appends to, after removing the rows after `start`.

    Only the main process writes the file; all processes have its rows.

    Attributes:
        rows: all rows of the file.
    """

    def __init__(self, path: Path, start: int, also: Add) -> None:
        self.rows = broadcast_from_rank0(lambda: _kept(path, start))
        self._also = also
        self._file = _AppendFile(path if is_main_process() else Path(os.devnull))

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def has(self, step: int) -> bool:
        """Return whether the file has a row of this step."""
        return any(row["step"] == step for row in self.rows)

    def add(self, row: Row) -> None:
        """Append a complete row immediately.

        Raises:
            InputError: the disk is full.
        """
        self.rows.append(row)
        self._file.add(f"{to_json(row)}\n".encode())
        self._also(row)

    def sync(self) -> None:
        """Flush all rows to the disk, so that they survive a power failure like the checkpoint that follows.

        Raises:
            InputError: the disk is full.
        """
        if is_main_process():
            self._file.sync()


class _AppendFile:
    """A file that grows by complete pieces; raises `InputError` if a write fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._written():
            make_folder(path.parent)
            # Unbuffered: otherwise closing the file would retry a write that failed on a full disk.
            self._handle = open(path, "ab", buffering=0, opener=open_private)  # noqa: SIM115 - closed by close()

    def add(self, piece: bytes) -> None:
        with self._written():
            while piece:
                piece = piece[self._handle.write(piece) :]

    def sync(self) -> None:
        with self._written():
            os.fsync(self._handle.fileno())

    def close(self) -> None:
        with self._written():
            self._handle.close()

    @contextmanager
    def _written(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self._path, error) from error


def _kept(path: Path, start: int) -> list[Row]:
    """Return the rows up to `start`, and truncate the file after them."""
    if path.exists():
        cut_unfinished_line(path)
    found = [row for _, row in read_jsonl(path)] if path.exists() else []
    rows = [row for row in found if row["step"] <= start]
    write_jsonl(path, rows)
    return rows


class Stopwatch:
    """Measures the seconds spent waiting for data."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Add the duration of the block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began

    def waits(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the same items, adding the time spent waiting for each."""
        source = iter(items)
        while True:
            with self.waiting():
                item = list(islice(source, 1))
            if not item:
                return
            yield item[0]


_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak_memory(device: torch.device) -> None:
    """Reset `peak_memory` of the device and, on Linux, of the host."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        _FORGET.write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int:
    """Return the peak memory in bytes since the last reset: of tensors on a GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # ru_maxrss of a child process, such as one of torchrun, starts at the value of its parent.
    if _STATUS.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8"))):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def tensorboard(folder: Path, start: int) -> Iterator[Add]:
    """Provide a function that writes the numbers of a row as TensorBoard events; nested numbers are section/name.

    TensorBoard's own writer uses a thread, which reports a full disk late and with its own message.

    Raises:
        InputError: tensorboard is not installed, or the disk is full.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
        from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
    except ImportError:
        raise not_installed("tensorboard: true", "tensorboard") from None

    def write(**event: Any) -> None:
        record = BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **event).SerializeToString())
        file.add(record.getvalue())

    def add(row: Row) -> None:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in _flat(row) if name != "step"]
        write(step=row["step"], summary=Summary(value=values))

    with closing(_AppendFile(folder / f"events.out.tfevents.{time.time_ns()}")) as file:
        write(file_version="brain.Event:2")
        # Rows of steps that a killed run logged and this run repeats are hidden by the new ones.
        write(step=start + 1, session_log=SessionLog(status=SessionLog.START))
        yield add


@contextmanager
def discard_rows() -> Iterator[Add]:
    """Provide a function that discards its rows."""
    yield lambda row: None


def _flat(row: Row, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def progress_note(row: Row, evaluations: Sequence[Row]) -> str:
    """Format the note of the progress line from the metrics of a step and the last evaluation."""
    parts = [f"loss {row['loss']:.3f}"]
    if evaluations:
        bits = evaluations[-1].get("bits_per_byte", {})
        parts += ["bits/byte " + " ".join(f"{name} {value:.3f}" for name, value in bits.items())] if bits else []
        parts += [f"{name} {100 * value:.0f} %" for name, value in evaluations[-1].get("accuracy", {}).items()]
    rate = row["tokens_per_second"]
    parts += [
        f"{rate:,.0f} tokens/s" if rate >= 10 else f"{rate:.1f} tokens/s",
        f"{row['peak_memory'] / 2**30:.1f} GiB",
    ]
    return "  ".join(parts)
