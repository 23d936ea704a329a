"""The processes that torchrun has started for one command: which of them this is, and how they keep together.

Without torchrun there is one, nothing here waits, and no process group is made. All processes need the same
directories: a disk that every machine sees.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = timedelta(days=7)
"""How long a process waits for the others. The first may build a corpus for hours while they wait; one that has
died is noticed by torchrun, which ends the rest."""

ASKING = timedelta(seconds=10)
"""How long torchrun's own store may take to say who has spoken."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which process this is.

    Attributes:
        rank: number of the process, from 0.
        local_rank: number among those of its machine, which is the number of its GPU.
        size: how many there are.
    """

    rank: int
    local_rank: int
    size: int


DEFAULTS = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}


def place() -> Place:
    """What torchrun says of this process; alone without it."""
    rank, local_rank, size = (int(os.environ.get(name, default)) for name, default in DEFAULTS.items())
    return Place(rank, local_rank, size)


def is_first() -> bool:
    """Whether this process is the one that prints and writes."""
    return place().rank == 0


@contextmanager
def together() -> Iterator[None]:
    """Keep the processes connected during the block; within such a block, and in a single process, nothing more.

    Tensors on the CPU travel by gloo, those on GPUs by NCCL.
    """
    import torch
    import torch.distributed as dist

    if place().size == 1 or dist.is_initialized():
        yield
        return
    has_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_gpus else "gloo", timeout=PATIENCE)
    yield
    # After an error the others may be anywhere; torchrun ends them.
    dist.destroy_process_group()


def wait() -> None:
    """Wait until all processes are here."""
    if place().size > 1:
        import torch.distributed as dist

        dist.barrier()


def broadcast_from_rank0(find: Callable[[], T]) -> T:
    """What the first process finds, for all: others may see a file earlier or later."""
    if not is_first():
        found: T = receive()
        return found
    found = find()
    send(found)
    return found


def send(value: Any) -> None:
    """Called by the first process: send the others a plain value."""
    _broadcast([value])


def receive() -> Any:
    """Called by the others: the value that the first process sends next."""
    return _broadcast([None])[0]


def _broadcast(box: list[Any]) -> list[Any]:
    if place().size > 1:
        import torch.distributed as dist

        dist.broadcast_object_list(box)
    return box


def summed(value: float) -> float:
    """The sum of a number over all processes, the same to the bit in each."""
    if place().size == 1:
        return value
    import torch
    import torch.distributed as dist

    box = torch.tensor([value], dtype=torch.float64)
    dist.all_reduce(box)
    return box.item()


def is_reporting() -> bool:
    """Whether this process is the first that has an error to tell: one line, whichever process met it.

    True once: ask only before an error is printed, and `is_first` before anything else is.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return is_first()
    import torch.distributed as dist

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]  # public, but in no __all__
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=ASKING, wait_for_workers=False
        )
        return store.add(f"jmedllm/spoken/{attempt}", 1) == 1
    except RuntimeError:  # the machine that keeps the store is gone: better twice than never
        return True
