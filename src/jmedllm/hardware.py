"""What a computation ran on, in words."""

import os
import platform
from pathlib import Path

import torch


def hardware(device: torch.device) -> str:
    """The device with its memory, such as "2 CPU cores (Intel Xeon ...), 16 GiB" or "NVIDIA H200, 140 GiB"."""
    if device.type == "cuda":
        return (
            f"{torch.cuda.get_device_name(device)}, {_gib(torch.cuda.get_device_properties(device).total_memory)}"
        )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores} CPU cores ({_processor()}), {_gib(memory)}"


def _processor() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gib(size: int) -> str:
    return f"{size / 2**30:.0f} GiB"
