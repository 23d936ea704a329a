"""What each step measured, in `metrics.jsonl` and, where it is wanted, for TensorBoard."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch

from jmedllm.errors import InputError
from jmedllm.files import cut_unfinished_line, read_jsonl, to_json, unwritable, write_jsonl

NAME = "metrics.jsonl"

T = TypeVar("T")


class Log:
    """A file of one JSON object per line that a killed run goes on with: lines behind `start` are dropped.

    Attributes:
        rows: all that the file holds.
    """

    def __init__(self, path: Path, start: int) -> None:
        if path.exists():
            cut_unfinished_line(path)
        kept = [row for _, row in read_jsonl(path)] if path.exists() else []
        self.rows = [row for row in kept if row["step"] <= start]
        self.path = path
        write_jsonl(path, self.rows)
        self._handle = path.open("a", encoding="utf-8")

    def __enter__(self) -> "Log":
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.close()

    def add(self, row: dict[str, Any]) -> None:
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


class TensorBoard:
    """The same rows as TensorBoard event files, each number under its own name."""

    def __init__(self, folder: Path, start: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError:
            raise InputError(
                "tensorboard: true needs tensorboard; install it with: pip install 'jmedllm[tensorboard]'"
            ) from None
        # Steps that a killed run did and this one repeats are hidden behind the later ones.
        self._writer = SummaryWriter(folder, purge_step=start + 1)

    def add(self, row: dict[str, Any]) -> None:
        """Write all numbers of a row; those of a section as section/name."""
        for name, value in _flat(row):
            if name != "step":
                self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def _flat(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            yield f"{prefix}{name}", value
