"""Checks before the first step of a stage: memory, disk, and a preview of one training example.

Each check runs an operation that would otherwise fail hours later.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.text import Text

from jmedllm.console import SafeConsole
from jmedllm.errors import InputError, is_out_of_memory
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.precision import Precision
from jmedllm.processes import broadcast_from_rank0, is_main_process
from jmedllm.training.batches import autocast, evaluating, micro_batches
from jmedllm.training.loss import summed_loss
from jmedllm.training.packing import Blocks


@dataclass(frozen=True, slots=True)
class DiskUsage:
    """Disk space that a stage needs, in bytes.

    Attributes:
        checkpoint: size of one checkpoint; the previous one is kept while a new one is written.
        model: size of the weights that the stage yields; the best weights are as large.
        copies_of_model: largest number of copies on disk at the same time.
    """

    checkpoint: int
    model: int
    copies_of_model: int

    @property
    def total(self) -> int:
        """Peak disk usage of the stage."""
        return 2 * self.checkpoint + self.copies_of_model * self.model


def try_longest_batch(network: Any, blocks: Blocks, micro_batch_size: int, precision: Precision) -> None:
    """Run forward and backward on the micro-batch with the most trained tokens.

    The random state does not change, so training is bit-identical once the gradients are dropped.

    Raises:
        InputError: memory runs out.
    """
    rows = np.sort(np.argsort(-blocks.loss_mask.sum(axis=1), kind="stable")[:micro_batch_size])
    devices = [precision.device] if precision.device.type == "cuda" else []
    described = explain_out_of_memory(f"a micro-batch of {len(rows)} rows of {blocks.ids.shape[1]} tokens, {_LARGEST}")
    with described, torch.random.fork_rng(devices), autocast(precision):
        [batch] = micro_batches(blocks, rows, len(rows), precision.device)
        summed_loss(network, *batch).backward()


def try_evaluation_batch(network: Any, blocks: Blocks, micro_batch_size: int, precision: Precision) -> None:
    """Run a forward pass on the first rows of an evaluation.

    Raises:
        InputError: memory runs out.
    """
    rows = np.arange(min(micro_batch_size, len(blocks)))
    described = explain_out_of_memory(
        f"an evaluation batch of {len(rows)} rows of {blocks.ids.shape[1]} tokens, {_LARGEST}"
    )
    with described, evaluating(network), autocast(precision):
        [batch] = micro_batches(blocks, rows, len(rows), precision.device)
        summed_loss(network, *batch)


_LARGEST = (
    "the largest of this stage; lower micro_batch_size or block_size, or set activation_checkpointing: recompute"
)


@contextmanager
def explain_out_of_memory(what: str) -> Iterator[None]:
    """Convert an out-of-memory error into one line that names `what`; `what` ends with the fix.

    Raises:
        InputError: the block runs out of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"memory runs out on {what}") from error


def try_checkpoint(write: Callable[[Path], None], folder: Path) -> int:
    """Write one checkpoint below `folder`, remove it again, and return its size in bytes.

    Args:
        write: writes a checkpoint into a folder.

    Raises:
        InputError: the checkpoint cannot be written.
    """
    trial = folder / "trial"
    try:
        write(trial)
        return broadcast_from_rank0(lambda: folder_bytes(trial))
    finally:
        if is_main_process():
            shutil.rmtree(trial, ignore_errors=True)


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder; 0 if it does not exist."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def trained_bytes(network: Any) -> int:
    """Return the size of the trainable parameters in bytes."""
    return sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)


def require_disk(folder: Path, needed: DiskUsage) -> None:
    """Check that the disk has space for everything the stage will write, minus what `folder` already contains.

    Raises:
        InputError: too little is free; the message has the numbers.
    """
    checkpoints, models = (
        f"two checkpoints of {_gib(needed.checkpoint)}",
        f"{needed.copies_of_model} times {_gib(needed.model)}",
    )
    require_free(folder, needed.total - folder_bytes(folder), f"the stage ({checkpoints}, {models} of weights)")


def require_free(folder: Path, size: int, what: str) -> None:
    """Check that the disk of a folder has space for `size` bytes of `what`.

    Raises:
        InputError: too little is free; the message has the numbers.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if size > free:
        raise InputError(
            f"{folder}: {what} needs {_gib(size)} more on disk, {_gib(free)} are free; free space or choose "
            "another --output"
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:,.2f} GiB" if size >= 2**27 else f"{size / 2**20:,.2f} MiB"


_LONGEST = 400
"""Maximum number of tokens of an example that are printed."""

_MOST_RUNS = 8
"""Maximum number of runs of a mask that are printed."""


def preview_example(
    tokenizer: Tokenizer, blocks: Blocks, title: str, console: Console | None = None, *, text: bool = False
) -> None:
    """Print which tokens of the first sample with a trained token are trained, to standard error.

    Args:
        tokenizer: tokenizer of the model.
        blocks: packed rows.
        title: name of the stage.
        console: console to print to instead of standard error.
        text: whether to print the text of the sample, which logs may then contain. Untrained tokens are dim, trained
            ones green and between ⟦ ⟧, and special tokens are spelled out.
    """
    rows = [index for index in range(min(len(blocks), 100)) if blocks.loss_mask[index].any()]
    if not rows or not is_main_process():
        return
    ids, loss_mask = first_sample(blocks, rows[0])
    console = console or SafeConsole(stderr=True)
    console.print(Text(f"{title}: the first example: {describe_mask(loss_mask)}", style="bold"), soft_wrap=True)
    if text:
        console.print(colored(tokenizer, ids, loss_mask), soft_wrap=True)


def describe_mask(loss_mask: list[bool]) -> str:
    """Describe a mask: number of tokens, number of trained tokens, and their runs in order."""
    runs = [(len(list(run)), is_trained) for is_trained, run in groupby(loss_mask)]
    described = [f"{length:,} {'trained' if is_trained else 'untrained'}" for length, is_trained in runs[:_MOST_RUNS]]
    more = [f"{len(runs) - _MOST_RUNS} runs more"] * (len(runs) > _MOST_RUNS)
    return f"{len(loss_mask):,} tokens, {sum(loss_mask):,} trained; in order: {', '.join([*described, *more])}"


def first_sample(blocks: Blocks, row: int) -> tuple[list[int], list[bool]]:
    """Return the ids and the loss mask of the first sample of a row that has a trained token."""
    starts = [column for column, position in enumerate(blocks.positions[row]) if position == 0]
    first_trained = int(blocks.loss_mask[row].argmax())
    start = max(column for column in starts if column <= first_trained)
    end = min((column for column in starts if column > first_trained), default=blocks.ids.shape[1])
    return blocks.ids[row, start:end].tolist(), blocks.loss_mask[row, start:end].tolist()


def colored(tokenizer: Tokenizer, ids: list[int], loss_mask: list[bool]) -> Text:
    """Format runs of trained and untrained tokens; a run is decoded as a whole, because a token may be half a
    character."""
    text = Text()
    shown = list(zip(ids, loss_mask, strict=True))[:_LONGEST]
    for is_trained, run in groupby(shown, key=lambda pair: pair[1]):
        piece = _decode(tokenizer, [token for token, _ in run])
        text.append(f"⟦{piece}⟧" if is_trained else piece, style="green" if is_trained else "dim")
    if len(ids) > _LONGEST:
        text.append(f" … {len(ids) - _LONGEST:,} more tokens", style="dim italic")
    return text


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
