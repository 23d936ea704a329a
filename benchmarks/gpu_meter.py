"""Time and memory of this process, on a GPU or, in a dry run, on a CPU."""

import time
from collections.abc import Callable
from typing import Any

import torch
from gpu_sizes import GIB

from jmedllm.errors import InputError
from jmedllm.training.metrics import peak_memory, reset_peak_memory

FOREIGN = 3 * GIB
"""CUDA and its libraries allocate less than this in a process that has computed nothing yet."""


def device() -> torch.device:
    """The GPU, or the CPU if there is none, which only a dry run uses."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def now() -> float:
    """Seconds, after a GPU has finished all its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(action: Callable[[], object], rounds: int) -> float:
    """Mean seconds of an action, after three that are not timed."""
    for _ in range(3):
        action()
    began = now()
    for _ in range(rounds):
        action()
    return (now() - began) / rounds


def outside() -> int:
    """Bytes of the GPU in use outside torch's allocator, by CUDA and its libraries."""
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def cap(limit: int | None) -> None:
    """Limit this process to `limit` GiB of the GPU, CUDA's own share included; None: no limit.

    Raises:
        InputError: another process uses memory of this GPU, which would be counted too.
    """
    if not torch.cuda.is_available():
        return
    square = torch.ones(64, 64, device="cuda", dtype=torch.bfloat16)
    square @ square  # loads the libraries, so that `outside` counts their memory
    torch.cuda.synchronize()
    others = outside()
    if others > FOREIGN:
        raise InputError(f"{others / GIB:.1f} GiB of this GPU are in use by another process; stop it")
    if limit is not None:
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, (limit * GIB - others) / total))


def reset_peaks() -> None:
    """Start measuring `peaks` again."""
    reset_peak_memory(torch.device("cpu"))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peaks() -> dict[str, Any]:
    """Peak bytes since `reset_peaks`.

    Returns:
        allocated: of tensors; reserved: of torch's allocator; gpu: reserved plus CUDA's own memory. These are None
        without a GPU. host: of this process.
    """
    host = peak_memory(torch.device("cpu"))
    if not torch.cuda.is_available():
        return {"allocated": None, "reserved": None, "gpu": None, "host": host}
    reserved = torch.cuda.max_memory_reserved()
    allocated = torch.cuda.max_memory_allocated()
    return {"allocated": allocated, "reserved": reserved, "gpu": reserved + outside(), "host": host}
