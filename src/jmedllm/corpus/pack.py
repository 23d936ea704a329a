"""Rows of token ids in which texts lie side by side without seeing one another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jmedllm.errors import InputError
from jmedllm.files import atomic_file, hash_file


@dataclass(frozen=True, slots=True)
class Sample:
    """One text as token ids; `trained` says of each token whether the model is to learn to predict it.

    The first token of a sample is never trained: nothing stands before it.
    """

    name: str
    ids: Sequence[int]
    trained: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Blocks:
    """N rows of T tokens.

    Attributes:
        ids: [N, T] token ids.
        positions: [N, T]; restart at 0 with every sample, and for every token of padding.
        trained: [N, T]; whether the token is a target of the loss.
    """

    ids: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int32]
    trained: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


def pack_documents(samples: Iterable[Sample], block_size: int, pad_id: int) -> Blocks:
    """Join samples and cut the stream every `block_size` tokens: no token is lost, and only the last
    row is padded. The part of a sample behind a cut starts anew at position 0."""
    rows = _Rows(block_size, pad_id)
    for sample in samples:
        start = 0
        while start < len(sample.ids):
            end = start + rows.room()
            start += rows.append(sample.ids[start:end], sample.trained[start:end])
    return rows.close()


def pack_examples(samples: Sequence[Sample], block_size: int, pad_id: int) -> Blocks:
    """Lay whole samples into rows in the given order; a sample that does not fit opens the next row.

    Raises:
        InputError: a sample is longer than a row or has no trained token; it is named.
    """
    rows = _Rows(block_size, pad_id)
    for sample in samples:
        if len(sample.ids) > block_size:
            raise InputError(
                f"example {sample.name}: {len(sample.ids)} tokens are more than block_size {block_size}; "
                "raise block_size or leave the example out"
            )
        if not any(sample.trained[1:]):
            raise InputError(f"example {sample.name}: no token is trained; is its answer empty?")
        if rows.room() < len(sample.ids):
            rows.finish_row()
        rows.append(sample.ids, sample.trained)
    return rows.close()


class _Rows:
    """Rows under construction."""

    def __init__(self, size: int, pad_id: int) -> None:
        self.size = size
        self.pad_id = pad_id
        self.done: list[tuple[list[int], list[int], list[bool]]] = []
        self.row: tuple[list[int], list[int], list[bool]] = ([], [], [])

    def room(self) -> int:
        return self.size - len(self.row[0])

    def append(self, ids: Sequence[int], trained: Sequence[bool]) -> int:
        taken = min(len(ids), self.room())
        self.row[0].extend(ids[:taken])
        self.row[1].extend(range(taken))
        self.row[2].extend([False, *trained[1:taken]])
        if not self.room():
            self.finish_row()
        return taken

    def finish_row(self) -> None:
        ids, positions, trained = self.row
        padding = self.room()
        self.done.append((ids + [self.pad_id] * padding, positions + [0] * padding, trained + [False] * padding))
        self.row = ([], [], [])

    def close(self) -> Blocks:
        if self.row[0]:
            self.finish_row()
        ids, positions, trained = zip(*self.done, strict=True) if self.done else ((), (), ())
        shape = (len(self.done), self.size)
        return Blocks(
            np.array(ids, dtype=np.int32).reshape(shape),
            np.array(positions, dtype=np.int32).reshape(shape),
            np.array(trained, dtype=np.bool_).reshape(shape),
        )


def save_blocks(blocks: Blocks, path: Path) -> str:
    """Write blocks to one .npz file, atomically; returns its SHA-256."""
    with atomic_file(path) as handle:
        np.savez(handle, ids=blocks.ids, positions=blocks.positions, trained=blocks.trained)
    return hash_file(path)


def load_blocks(path: Path) -> Blocks:
    """Read what `save_blocks` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return Blocks(arrays["ids"], arrays["positions"], arrays["trained"])
