"""What each step measured, in `metrics.jsonl` and, where it is wanted, for TensorBoard."""

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from jmedllm.errors import InputError
from jmedllm.files import cut_unfinished_line, read_jsonl, to_json, unwritable, write_jsonl
from jmedllm.processes import as_first_sees, is_first

METRICS, EVALUATIONS = "metrics.jsonl", "evaluations.jsonl"

Row = dict[str, Any]

Add = Callable[[Row], None]
"""Called with each row of a log."""

T = TypeVar("T")


class Log:
    """A file of one JSON object per line that a killed run goes on with: lines behind `start` are dropped.

    The first process writes it; all know what it holds.

    Attributes:
        rows: all that the file holds.
    """

    def __init__(self, path: Path, start: int, also: Add) -> None:
        self.rows = as_first_sees(lambda: _kept(path, start))
        self.path, self._also = path, also
        self._handle = (path if is_first() else Path(os.devnull)).open("a", encoding="utf-8")

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def has(self, step: int) -> bool:
        """Whether there is a row of this step."""
        return any(row["step"] == step for row in self.rows)

    def add(self, row: Row) -> None:
        """Append a row, whole and at once.

        Raises:
            InputError: the disk is full.
        """
        self.rows.append(row)
        try:
            self._handle.write(to_json(row) + "\n")
            self._handle.flush()
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._also(row)


def _kept(path: Path, start: int) -> list[Row]:
    """The rows up to `start`, and the file cut down to them."""
    if path.exists():
        cut_unfinished_line(path)
    found = [row for _, row in read_jsonl(path)] if path.exists() else []
    rows = [row for row in found if row["step"] <= start]
    write_jsonl(path, rows)
    return rows


class Stopwatch:
    """Seconds spent waiting for what an iterator hands out."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def waits(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, with the time that each took to come added up."""
        source = iter(items)
        while True:
            began = time.perf_counter()
            try:
                item = next(source)
            except StopIteration:
                return
            finally:
                self.seconds += time.perf_counter() - began
            yield item


def peak_memory(device: torch.device) -> int:
    """Most bytes in use at once so far: tensors on a GPU, else all of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def tensorboard(folder: Path, start: int) -> Iterator[Add]:
    """Hand out what writes the numbers of a row as TensorBoard events, those of a section as section/name.

    Raises:
        InputError: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        raise InputError(
            "tensorboard: true needs tensorboard; install it with: pip install 'jmedllm[tensorboard]'"
        ) from None

    def add(row: Row) -> None:
        for name, value in _flat(row):
            if name != "step":
                writer.add_scalar(name, value, row["step"])

    # Steps that a killed run did and this one does again are hidden behind the later ones.
    with SummaryWriter(str(folder), purge_step=start + 1) as writer:
        yield add


@contextmanager
def nowhere() -> Iterator[Add]:
    """Hand out what drops its rows."""
    yield lambda row: None


def _flat(row: Row, prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value


def in_words(row: Row, evaluations: Sequence[Row]) -> str:
    """The note of the progress line: what a step came to, and the last evaluation."""
    parts = [f"loss {row['loss']:.3f}"]
    if evaluations:
        bits = evaluations[-1].get("bits_per_byte", {})
        parts += ["bits/byte " + " ".join(f"{name} {value:.3f}" for name, value in bits.items())] if bits else []
        parts += [f"{name} {100 * value:.0f} %" for name, value in evaluations[-1].get("exam", {}).items()]
    parts += [f"{row['tokens_per_second']:,.0f} tokens/s", f"{row['peak_memory'] / 2**30:.1f} GiB"]
    return "  ".join(parts)
