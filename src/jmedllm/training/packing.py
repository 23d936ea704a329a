"""Packed rows of token ids, in which samples do not attend to one another."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from jmedllm.errors import InputError
from jmedllm.files import atomic_file, hash_file, hash_text


@dataclass(frozen=True, slots=True)
class TrainingSample:
    """Token ids of one text; `loss_mask` is true for each token that the model learns to predict.

    The first token of a sample is never trained: it has no context.
    """

    name: str
    ids: Sequence[int]
    loss_mask: Sequence[bool]


@dataclass(frozen=True, slots=True)
class Blocks:
    """N rows of T tokens.

    Attributes:
        ids: [N, T] token ids.
        positions: [N, T] positions, which restart at 0 with every sample and every padding token.
        loss_mask: [N, T], true where the token is a target of the loss.
    """

    ids: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int32]
    loss_mask: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)


Row = tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]
"""Ids, positions and loss mask of one row, each [T]."""


def document_rows(samples: Iterable[TrainingSample], block_size: int, pad_id: int) -> Iterator[Row]:
    """Concatenate samples and split the stream every `block_size` (2 or more) tokens; only the last row is padded.

    The part of a sample after a split restarts at position 0 and repeats the token before the split, so that each
    token except the sample's first is predicted exactly once, including the EOS.
    """
    row = _OpenRow(block_size, pad_id)
    for sample in samples:
        start, end = 0, 0
        while end < len(sample.ids):
            end = start + row.room
            row.append(sample.ids[start:end], sample.loss_mask[start:end])
            start = end - 1
            if not row.room:
                yield row.take()
    if row.length:
        yield row.take()


OPEN = 64
"""Number of open rows. More gain nothing on benchmark questions in rows of 512 tokens."""


def example_rows(samples: Iterable[TrainingSample], block_size: int, pad_id: int) -> Iterator[Row]:
    """Pack complete samples into rows by best fit over `OPEN` rows.

    Raises:
        InputError: a sample is longer than a row or has no trained token; the message names it.
    """
    rows: list[_OpenRow] = []
    for sample in samples:
        _require_usable(sample, block_size)
        best = min((row for row in rows if row.room >= len(sample.ids)), key=_room, default=None)
        if best is None:
            if len(rows) == OPEN:
                fullest = min(rows, key=_room)
                rows.remove(fullest)
                yield fullest.take()
            best = _OpenRow(block_size, pad_id)
            rows.append(best)
        best.append(sample.ids, sample.loss_mask)
    for row in rows:
        yield row.take()


def _room(row: "_OpenRow") -> int:
    return row.room


def _require_usable(sample: TrainingSample, block_size: int) -> None:
    if len(sample.ids) > block_size:
        raise InputError(
            f"example {sample.name}: {len(sample.ids)} tokens are more than block_size {block_size}; "
            "raise block_size or leave the example out"
        )
    if not any(sample.loss_mask[1:]):
        raise InputError(f"example {sample.name}: no token is trained; is its answer empty?")


def pack_documents(samples: Iterable[TrainingSample], block_size: int, pad_id: int) -> Blocks:
    """Pack documents in memory; see `document_rows`."""
    return _gather(document_rows(samples, block_size, pad_id), block_size)


def pack_examples(samples: Iterable[TrainingSample], block_size: int, pad_id: int) -> Blocks:
    """Pack examples in memory; see `example_rows`."""
    return _gather(example_rows(samples, block_size, pad_id), block_size)


def _gather(rows: Iterable[Row], block_size: int) -> Blocks:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    arrays: list[Any] = [
        np.array(column, dtype=dtype).reshape(-1, block_size)
        for column, dtype in zip(columns, DTYPES.values(), strict=True)
    ]
    return Blocks(*arrays)


class _OpenRow:
    """A row under construction."""

    def __init__(self, size: int, pad_id: int) -> None:
        self.size = size
        self.pad_id = pad_id
        self._clear()

    def _clear(self) -> None:
        self.length = 0
        self.ids = np.full(self.size, self.pad_id, np.int32)
        self.positions = np.zeros(self.size, np.int32)
        self.loss_mask = np.zeros(self.size, np.bool_)

    @property
    def room(self) -> int:
        return self.size - self.length

    def append(self, ids: Sequence[int], loss_mask: Sequence[bool]) -> None:
        """Append tokens, at most `room`; the first one is not trained."""
        start, end = self.length, self.length + len(ids)
        self.ids[start:end] = ids
        self.positions[start:end] = np.arange(len(ids))
        self.loss_mask[start:end] = loss_mask
        self.loss_mask[start:end][:1] = False
        self.length = end

    def take(self) -> Row:
        row = self.ids, self.positions, self.loss_mask
        self._clear()
        return row


DTYPES = {"ids": np.int32, "positions": np.int32, "loss_mask": np.bool_}


def save_blocks(rows: Iterable[Row], block_size: int, folder: Path) -> str:
    """Write rows one by one to ids.npy, positions.npy and loss_mask.npy; return one hash of the three.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    paths = [folder / f"{name}.npy" for name in DTYPES]
    with ExitStack() as stack:
        handles = [stack.enter_context(atomic_file(path)) for path in paths]
        count = 0
        for handle, dtype in zip(handles, DTYPES.values(), strict=True):
            _write_header(handle, dtype, (0, block_size))
        for row in rows:
            for handle, values in zip(handles, row, strict=True):
                handle.write(values.tobytes())
            count += 1
        for handle, dtype in zip(handles, DTYPES.values(), strict=True):
            handle.seek(0)  # the number of rows is known only now
            _write_header(handle, dtype, (count, block_size))
    return hash_text(" ".join(hash_file(path) for path in paths))


def _write_header(handle: BinaryIO, dtype: npt.DTypeLike, shape: tuple[int, int]) -> None:
    """Write the header of an .npy file; NumPy pads it to the same length for any number of rows."""
    description = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = {"descr": description, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(handle, header)


def load_blocks(folder: Path) -> Blocks:
    """Memory-map the files of `save_blocks`; a row is read from disk when it is used."""
    return Blocks(*(np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in DTYPES))
