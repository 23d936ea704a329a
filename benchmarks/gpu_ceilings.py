"""Describe the machine and measure its peak rates."""

from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from gpu_meter import cap, device, timed
from gpu_sizes import REAL, Sizes

from jmedllm.errors import InputError
from jmedllm.hardware import hardware
from jmedllm.planning.machine import this_machine

ROUNDS = 20

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "trl", "liger-kernel")


def measure_ceilings(name: str, sizes: Sizes) -> Iterator[dict[str, Any]]:
    """Yield the machine, then rates in FLOP/s and bytes/s. A copy within one memory counts bytes read and written.

    Raises:
        InputError: the real sizes are measured without a GPU.
    """
    place, width = device(), sizes.product
    if place.type != "cuda" and sizes is REAL:
        raise InputError("no CUDA device is visible; run this on a GPU, or use --small for a dry run")
    yield {"machine": machine()}
    cap(None)
    left, right = (torch.randn(width, width, device=place, dtype=torch.bfloat16) for _ in range(2))
    product = timed(lambda: left @ right, ROUNDS)
    onto, origin = (torch.zeros(sizes.copied // 2, dtype=torch.uint8, device=place) for _ in range(2))
    on_device = timed(lambda: onto.copy_(origin), ROUNDS)
    pinned = torch.ones(sizes.copied // 4, dtype=torch.uint8, pin_memory=place.type == "cuda")
    there = onto[: len(pinned)]
    up = timed(lambda: there.copy_(pinned, non_blocking=True), ROUNDS)
    down = timed(lambda: pinned.copy_(there, non_blocking=True), ROUNDS)
    first, second = (torch.ones(sizes.copied // 8) for _ in range(2))
    host_copy = timed(lambda: first.copy_(second), 5)
    yield {
        "measured": {
            "flops": 2 * width**3 / product,
            "copy": 2 * onto.nbytes / on_device,
            "up": pinned.nbytes / up,
            "down": pinned.nbytes / down,
            "host_copy": 2 * first.nbytes / host_copy,
            "threads": torch.get_num_threads(),
        }
    }


def machine() -> dict[str, Any]:
    """The device, its rated speeds if known, and versions of the packages that compute."""
    place = device()
    rates = this_machine(place).gpu.rates
    return {
        "device": torch.cuda.get_device_name() if place.type == "cuda" else "CPU",
        "hardware": hardware(place),
        "host": hardware(torch.device("cpu")),
        "rated": asdict(rates) if rates else None,
        "versions": {package: _version(package) for package in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
