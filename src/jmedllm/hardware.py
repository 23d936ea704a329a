"""Describe the hardware of a computation."""

import os
import platform
from pathlib import Path

import torch

from jmedllm.processes import available_cores, rank


def hardware(device: torch.device) -> str:
    """Describe the devices of all processes with the memory of each, such as "16 × NVIDIA H200, 140 GiB", or the CPU
    of this machine, such as "2 CPU cores (Intel Xeon ...), 16 GiB"."""
    processes = rank().world_size
    if device.type == "cuda":
        name, memory = torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory
        return f"{f'{processes} × ' if processes > 1 else ''}{name}, {_gib(memory)}"
    return f"{processes} processes on machines of {_cpu()}" if processes > 1 else _cpu()


def _cpu() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{available_cores()} CPU cores ({_processor()}), {_gib(memory)}"


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gib(size: int) -> str:
    return f"{size / 2**30:.0f} GiB"
