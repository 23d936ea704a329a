"""Choose the device and the dtype of the computation."""

import os
from dataclasses import dataclass
from typing import Literal

import torch

from jmedllm.errors import InputError

PrecisionName = Literal["auto", "bfloat16", "float32"]
DeviceName = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, slots=True)
class Precision:
    """A device, the dtype of its matrix products, and the reason for the choice."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """Name of the dtype in records and reports: "bfloat16" or "float32"."""
        return str(self.dtype).removeprefix("torch.")


def choose_precision(
    precision: PrecisionName = "auto", device: DeviceName = "auto", threads: int | None = None
) -> Precision:
    """Choose the device (CUDA or MPS if available) and bfloat16 if the hardware supports its matrix products.

    `threads` limits the CPU threads of this process; None keeps torch's default.

    Raises:
        InputError: the requested device is not available, or there are more processes than GPUs.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if not there.get(device, True):
        fix = " or a CUDA build of torch" if device == "cuda" else ""
        raise InputError(f"device {device}: no {device.upper()} device is visible; use device cpu{fix}")
    if threads is not None:
        torch.set_num_threads(threads)
    place = torch.device(next(name for name in there if there[name]) if device == "auto" else device)
    if place.type == "cuda":
        # Each process of a machine uses a GPU of its own.
        own, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if own >= count:
            raise InputError(f"process {own + 1} has no GPU: {count} visible; start at most {count} processes")
        place = torch.device("cuda", own)
    if precision != "auto":
        return Precision(place, getattr(torch, precision), "asked for")
    if place.type == "cuda":
        if torch.cuda.is_bf16_supported():
            return Precision(place, torch.bfloat16, f"{torch.cuda.get_device_name()} multiplies in bfloat16")
        return Precision(place, torch.float32, f"{torch.cuda.get_device_name()} has no bfloat16")
    if place.type == "mps":
        return Precision(place, torch.float32, "bfloat16 on MPS was never measured")
    if torch.cpu._is_amx_tile_supported():
        return Precision(place, torch.bfloat16, "this CPU multiplies in bfloat16 (AMX)")
    return Precision(place, torch.float32, "this CPU has no fast bfloat16 (AMX)")
