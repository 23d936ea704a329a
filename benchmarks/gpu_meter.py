"""Time and memory of the process that asks, on a GPU or, in the dry mode, without one."""

import time
from collections.abc import Callable
from typing import Any

import torch
from gpu_sizes import GIB

from jmedllm.errors import InputError
from jmedllm.training.metrics import peak_memory, reset_peak_memory

FOREIGN = 3 * GIB
"""CUDA and its libraries hold less than this in a process that has done nothing yet."""


def device() -> torch.device:
    """The GPU, or without one the CPU, which only the dry mode uses."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def now() -> float:
    """Seconds, once a GPU has done all it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(action: Callable[[], object], rounds: int) -> float:
    """Mean seconds of an action, after some that are not timed."""
    for _ in range(3):
        action()
    began = now()
    for _ in range(rounds):
        action()
    return (now() - began) / rounds


def outside() -> int:
    """Bytes of the GPU that are in use outside torch's allocator: what CUDA and its libraries hold."""
    free, total = torch.cuda.mem_get_info()
    return total - free - torch.cuda.memory_reserved()


def cap(limit: int | None) -> None:
    """Let this process have `limit` GiB of the whole GPU, CUDA's own share included; None: all.

    Raises:
        InputError: another process holds memory of this GPU, which would be counted too.
    """
    if not torch.cuda.is_available():
        return
    square = torch.ones(64, 64, device="cuda", dtype=torch.bfloat16)
    square @ square  # loads the libraries, whose memory is then seen outside
    torch.cuda.synchronize()
    others = outside()
    if others > FOREIGN:
        raise InputError(f"{others / GIB:.1f} GiB of this GPU are taken by another process; stop it")
    if limit is not None:
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, (limit * GIB - others) / total))


def forget_peaks() -> None:
    """Let `peaks` begin anew."""
    reset_peak_memory(torch.device("cpu"))
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peaks() -> dict[str, Any]:
    """Most bytes since they were forgotten.

    Returns:
        allocated: of tensors; reserved: of torch's allocator; gpu: reserved, and what CUDA holds beside it. These
        are None without a GPU. host: of this process.
    """
    host = peak_memory(torch.device("cpu"))
    if not torch.cuda.is_available():
        return {"allocated": None, "reserved": None, "gpu": None, "host": host}
    reserved = torch.cuda.max_memory_reserved()
    allocated = torch.cuda.max_memory_allocated()
    return {"allocated": allocated, "reserved": reserved, "gpu": reserved + outside(), "host": host}
