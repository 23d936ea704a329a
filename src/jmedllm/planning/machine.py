"""The machine of a plan: a known GPU by name, or any GPU by its memory."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml

from jmedllm.errors import InputError, unknown
from jmedllm.processes import rank

GIB = 2**30

LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Files with the memory limit of a container: Linux control groups, versions 2 and 1."""

_UNITS = {"m": 2**20, "g": GIB, "t": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([mgt])(?:i?b)?", re.IGNORECASE)
_MANY = re.compile(r"(\d+)\s*x\s*(\S+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device.

    Attributes:
        memory: memory in bytes.
        rates: rated speeds; None if only the memory is known.
    """

    name: str
    memory: int
    rates: "Rates | None" = None


@dataclass(frozen=True, slots=True)
class Rates:
    """Rated speeds of a GPU, per second.

    Attributes:
        flops: dense bfloat16 floating-point operations.
        bandwidth: bytes of memory bandwidth.
        link: bytes to or from the host.
    """

    flops: float
    bandwidth: float
    link: float


@dataclass(frozen=True, slots=True)
class Machine:
    """Hardware of a run.

    Attributes:
        gpus: number of GPUs per node.
        ram: bytes of host memory per node.
        is_shared: whether the device shares the host's memory, like a CPU or an Apple GPU.
        cores: CPU cores per node; None if unknown.
    """

    gpu: Gpu
    gpus: int
    nodes: int
    ram: int
    is_shared: bool = False
    cores: int | None = None

    @property
    def processes(self) -> int:
        """Number of processes: one per GPU."""
        return self.gpus * self.nodes


def this_machine(device: torch.device) -> Machine:
    """Describe this machine by its total memory, not the free memory, so that plans are reproducible."""
    ram, processes, cores = host_memory(), rank().world_size, os.cpu_count()
    here = min(processes, int(os.environ.get("LOCAL_WORLD_SIZE", processes)))
    nodes = processes // here
    if device.type != "cuda":
        gpu = Gpu(f"this machine's {device.type.upper()}", ram)
        return Machine(gpu, here, nodes, ram, is_shared=True, cores=cores)
    found = torch.cuda.get_device_properties(device)
    rates = next((gpu.rates for name, gpu in _known().items() if _plain(name) == _plain(found.name)), None)
    return Machine(Gpu(found.name, found.total_memory, rates), here, nodes, ram, cores=cores)


def host_memory() -> int:
    """Return the bytes of host memory, or the limit of the container if it is lower."""
    limits = [file.read_text(encoding="ascii").strip() for file in LIMITS if file.is_file()]
    return min([psutil.virtual_memory().total, *(int(limit) for limit in limits if limit.isdigit())])


def read_size(text: str, what: str) -> int:
    """Parse "24GiB", "24 GB" or "24G", which all mean 24 × 2^30 bytes, as memory is sold.

    Args:
        text: the size.
        what: name of the option, for messages.

    Raises:
        InputError: the text is not a size above 0.
    """
    found = _SIZE.fullmatch(text.strip())
    size = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if not size:
        bare = re.fullmatch(r"\d+(\.\d+)?", text.strip()) and float(text) > 0
        fix = f"write {text.strip()}GiB" if bare else "write it as 24GiB"
        raise InputError(f"{what} {text!r} is not a memory size; {fix}")
    return size


def read_gpu(text: str, what: str = "--gpu") -> Gpu:
    """Parse a GPU: the name of a known one, ignoring case and punctuation, or its memory.

    The memory may be followed by the rates: dense bfloat16 TFLOP/s, GB/s of memory bandwidth and GB/s of the link,
    such as "24GiB,165,1008,32".

    Raises:
        InputError: the name is unknown (the message suggests the nearest), or a number is missing or invalid.
    """
    if re.fullmatch(r"\d{4}", text.strip()) and (near := [name for name in _known() if text.strip() in name]):
        raise InputError(f"{what} {text!r}: did you mean {' or '.join(near)}?")
    if text.strip()[:1].isdigit():
        size, *rates = text.split(",")
        memory = read_size(size, what)
        return Gpu(f"a GPU of {memory / GIB:g} GiB", memory, _rates(rates, text, what) if rates else None)
    known = _known()
    name = next((each for each in known if _plain(each) == _plain(text)), None)
    if name is None:
        raise unknown(f"GPU in {what}", text, known)
    return known[name]


def _rates(given: Sequence[str], text: str, what: str) -> Rates:
    try:
        flops, bandwidth, link = (float(each) for each in given)
        is_sound = all(math.isfinite(each) and each > 0 for each in (flops, bandwidth, link))
    except ValueError:
        is_sound = False
    if not is_sound:
        raise InputError(
            f"{what} {text!r}: after the memory give three numbers or none: TFLOP/s, GB/s of its memory and GB/s "
            "of its link, as in 24GiB,165,1008,32"
        )
    return Rates(flops * 1e12, bandwidth * 1e9, link * 1e9)


def read_gpus(text: str) -> tuple[Gpu, int]:
    """Parse the number and kind of GPUs, such as "8xh100" or "2x24GiB".

    Raises:
        InputError: the text has another form, or the GPU is unknown.
    """
    found = _MANY.fullmatch(text.strip())
    if not found or not int(found[1]):
        raise InputError(f"--gpus {text!r} should be a number and a GPU, such as 8xh100 or 2x24GiB")
    return read_gpu(found[2], "--gpus"), int(found[1])


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("nvidia").removeprefix("geforce")


@cache
def _known() -> dict[str, Gpu]:
    rows: dict[str, dict[str, Any]] = yaml.safe_load(
        files("jmedllm.planning").joinpath("gpus.yaml").read_text(encoding="utf-8")
    )
    return {
        name: Gpu(name, row["memory"] * 2**20, Rates(row["tflops"] * 1e12, row["bandwidth"] * 1e9, row["link"] * 1e9))
        for name, row in rows.items()
    }


def gib(size: float) -> str:
    """Format bytes in GiB or MiB."""
    return f"{size / GIB:,.1f} GiB" if size >= GIB / 10 or not size else f"{size / 2**20:,.1f} MiB"
