"""The processes of one command: the rank of this one, and how they communicate.

`jmedllm launch` starts them on one machine, torchrun on several. Otherwise there is one process, and no process group
is created. All processes need the same directories, so multi-node runs need a shared file system.
"""

import itertools
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

GROUP_TIMEOUT = timedelta(days=7)
"""Time limit for waiting for other processes. The main process may build a corpus for hours while they wait; torchrun
detects a process that died and ends the rest."""

STORE_TIMEOUT = timedelta(seconds=10)
"""Time limit for waiting for torchrun's store."""


@dataclass(frozen=True, slots=True)
class Rank:
    """The position of this process among all processes.

    Attributes:
        global_rank: index among all processes, from 0.
        local_rank: index among the processes of this machine, which is also the index of its GPU.
        world_size: number of processes.
    """

    global_rank: int
    local_rank: int
    world_size: int


RENDEZVOUS = "JMEDLLM_RENDEZVOUS"
"""Environment variable with the directory in which the processes of `jmedllm launch` meet."""

_groups = itertools.count()
"""Numbers of process groups: each has a file of its own in the directory."""


DEFAULTS = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}


def rank() -> Rank:
    """Return the rank of this process from the environment variables that `jmedllm launch` and torchrun set."""
    return Rank(*(int(os.environ.get(name, default)) for name, default in DEFAULTS.items()))


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_main_process() -> bool:
    """Return whether this process is the one that prints and writes files."""
    return rank().global_rank == 0


@contextmanager
def process_group() -> Iterator[None]:
    """Connect the processes during the block. Does nothing for a single process or inside another such block.

    CPU tensors use gloo, GPU tensors use NCCL. Processes of one machine use its loopback interface.
    """
    import torch
    import torch.distributed as dist

    here = rank()
    if here.world_size == 1 or dist.is_initialized():
        yield
        return
    if int(os.environ.get("LOCAL_WORLD_SIZE", "0")) == here.world_size:
        for name in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(name, loopback_interface())
    has_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if has_gpus else "gloo"
    if folder := os.environ.get(RENDEZVOUS):
        file = Path(folder) / f"group-{next(_groups)}"
        store = dist.FileStore(str(file), here.world_size)  # type: ignore[attr-defined]  # public, but in no __all__
        dist.init_process_group(
            backend, store=store, rank=here.global_rank, world_size=here.world_size, timeout=GROUP_TIMEOUT
        )
    else:
        dist.init_process_group(backend, timeout=GROUP_TIMEOUT)
    yield
    # Skipped after an error: the other processes may be blocked, and their launcher ends them.
    dist.destroy_process_group()


def loopback_interface() -> str:
    """Return the name of the network interface that only this machine reaches: `lo`, or `lo0` on macOS."""
    return next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "lo")


def wait() -> None:
    """Wait until all processes reach this call."""
    if rank().world_size > 1:
        import torch.distributed as dist

        dist.barrier()


def broadcast_from_rank0(find: Callable[[], T]) -> T:
    """Call `find` in the main process and return its result in all processes.

    Other processes might read a file at a different time and get another result.
    """
    if not is_main_process():
        found: T = receive()
        return found
    found = find()
    send(found)
    return found


def send(value: Any) -> None:
    """Send a plain value to the other processes; called by the main process."""
    _broadcast([value])


def receive() -> Any:
    """Receive the value that the main process sends next; called by the other processes."""
    return _broadcast([None])[0]


def _broadcast(box: list[Any]) -> list[Any]:
    if rank().world_size > 1:
        import torch.distributed as dist

        dist.broadcast_object_list(box)
    return box


def summed(value: float) -> float:
    """Sum a number over all processes. The result has the same bits in each."""
    if rank().world_size == 1:
        return value
    import torch

    return summed_tensor(torch.tensor([value], dtype=torch.float64)).item()


def summed_tensor(values: "torch.Tensor") -> "torch.Tensor":
    """Sum a tensor on the CPU over all processes."""
    if rank().world_size > 1:
        import torch.distributed as dist

        dist.all_reduce(values)
    return values


def is_reporting() -> bool:
    """Return whether this process is the first to report an error, so that several processes print it once.

    Returns True once. Call it only before printing an error; use `is_main_process` for everything else.
    """
    if folder := os.environ.get(RENDEZVOUS):
        return claim_report(folder)
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return is_main_process()
    import torch.distributed as dist

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        store = dist.TCPStore(  # type: ignore[attr-defined]  # public, but in no __all__
            os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=STORE_TIMEOUT, wait_for_workers=False
        )
        return store.add(f"jmedllm/reported/{attempt}", 1) == 1
    except RuntimeError:  # the machine with the store has ended; report twice rather than never
        return True


def claim_report(folder: str) -> bool:
    """Return whether no process that meets in `folder` has reported an error yet; from now on, one has."""
    try:
        (Path(folder) / "reported").touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        return False
    except FileNotFoundError:  # the launcher has ended; report twice rather than never
        return True
    return True
