"""Processor, memory, GPUs, disks, clock, and where text may be written to disk by the system."""

import csv
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import psutil

import jmedllm
from jmedllm.doctor.check import Check
from jmedllm.doctor.software import torch_build
from jmedllm.processes import available_cores

_SECTION = "machine"

_GIB = 2**30

LITTLE_MEMORY, LITTLE_DISK = 4 * _GIB, 20 * _GIB
"""Free bytes below which a line is a warning."""

_QUERY = ("name", "driver_version", "compute_cap", "memory.total", "memory.used", "mig.mode.current")
_DRIVERS = {"12": 525, "13": 580}
"""Lowest driver for each major version of CUDA, from NVIDIA's release notes of CUDA."""

_OLDEST = 7.0
"""Compute capability from which the wheels of torch run."""

_SMI_S = 5.0


def check_machine(paths: Sequence[Path]) -> Iterator[Check]:
    """Check what computes, and what the system itself may write to disk."""
    yield _processor()
    yield _memory()
    yield from _gpus()
    yield from _disks(paths)
    yield _clock()
    yield _core_dumps()
    yield _swap(Path("/proc/swaps"))


def _processor() -> Check:
    cores = available_cores()
    threads = os.environ.get("OMP_NUM_THREADS")
    busy = os.getloadavg()[0]
    found = f"{cores} cores; torch uses {f'OMP_NUM_THREADS ({threads})' if threads else 'all'}"
    if busy > 2 * cores:
        return Check(
            _SECTION, "processor", "warning", f"{found}; load {busy:.0f}", "others compute here; expect less speed"
        )
    return Check(_SECTION, "processor", "ok", found)


def _memory() -> Check:
    memory = psutil.virtual_memory()
    limits = [int(text) for file in _LIMITS if (text := _read(file).strip()).isdigit()]
    total = min([memory.total, *limits])
    found = f"{_gib(min(memory.available, total))} of {_gib(total)} free"
    if total < memory.total:
        found += f" (limit of this container; the machine has {_gib(memory.total)})"
    if memory.available < LITTLE_MEMORY:
        fix = "end other programs, or plan for the rest: jmedllm plan RECIPE.yaml"
        return Check(_SECTION, "memory", "warning", found, fix)
    return Check(_SECTION, "memory", "ok", found)


_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def _gpus() -> Iterator[Check]:
    build = torch_build()
    has_cuda = build is not None and build[1] is not None
    program = shutil.which("nvidia-smi")
    if program is None:
        if has_cuda:
            fix = "install the driver, or the smaller torch for CPUs"
            yield Check(_SECTION, "GPU", "warning", "no NVIDIA driver, and torch was built for GPUs", fix)
        else:
            yield Check(_SECTION, "GPU", "ok", "none found; everything runs on the CPU")
        return
    command = [program, f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        yield Check(_SECTION, "GPU", "fix", "nvidia-smi does not answer", "restart the driver or the machine")
        return
    if asked.returncode:
        said = (asked.stdout or asked.stderr).strip().splitlines() or ["no reason"]
        yield Check(_SECTION, "GPU", "fix", f"nvidia-smi: {said[0]}", "load the NVIDIA driver")
        return
    for number, row in enumerate(csv.reader(asked.stdout.splitlines(), skipinitialspace=True)):
        yield _gpu(f"GPU {number}", row, build)


def _gpu(name: str, row: Sequence[str], build: tuple[str, str | None] | None) -> Check:
    model, driver, capability, total, used, mig = row
    free = f"{(float(total) - float(used)) / 1024:.0f} of {float(total) / 1024:.0f} GiB free"
    found = f"{model}, {free}, compute {capability}, driver {driver}, MIG {mig.strip('[]').lower()}"
    if build is None or build[1] is None:
        fix = "install torch for CUDA: https://pytorch.org/get-started/locally"
        return Check(_SECTION, name, "fix", f"{found}; torch cannot use it", fix)
    needed = _DRIVERS.get(build[1].partition(".")[0], 0)
    if int(driver.partition(".")[0]) < needed:
        fix = f"install driver {needed} or newer, or torch for an older CUDA"
        return Check(_SECTION, name, "fix", f"{found}; torch needs another driver for CUDA {build[1]}", fix)
    if float(capability) < _OLDEST:
        return Check(_SECTION, name, "fix", f"{found}; too old for torch", "use another GPU, or the CPU")
    if float(used) > float(total) / 10:
        return Check(_SECTION, name, "warning", found, "another program uses it; see nvidia-smi")
    return Check(_SECTION, name, "ok", found)


def _disks(paths: Sequence[Path]) -> Iterator[Check]:
    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    named = {"here": Path.cwd(), "HF cache": cache, "temporary": Path(tempfile.gettempdir())}
    named |= {f"disk {number}": path for number, path in enumerate(paths, 1)}
    disks: dict[int, tuple[list[str], Path]] = {}
    for name, path in named.items():
        existing = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
        disks.setdefault(existing.stat().st_dev, ([], existing))[0].append(name)
    for names, path in disks.values():
        usage = shutil.disk_usage(path)
        found = f"{_gib(usage.free)} of {_gib(usage.total)} free at {path}"
        if len(names) > 1:
            found += f" (also: {', '.join(names[1:])})"
        name = "disk" if names[0] == "here" else names[0]
        if not os.access(path, os.W_OK):
            yield Check(_SECTION, name, "warning", f"{found}; you cannot write there", "choose another --output")
        elif usage.free < LITTLE_DISK:
            fix = "free space: checkpoints of a 7B model take 40 GiB or more; jmedllm plan has the numbers"
            yield Check(_SECTION, name, "warning", found, fix)
        else:
            yield Check(_SECTION, name, "ok", found)


def _clock() -> Check:
    now = datetime.now().astimezone()
    installed = datetime.fromtimestamp(Path(jmedllm.__file__).stat().st_mtime).astimezone()
    found = f"{now:%Y-%m-%d %H:%M} {now.tzname()}"
    if now < installed:
        fix = "set the clock: manifests and cards have dates"
        return Check(_SECTION, "clock", "fix", f"{found}, before jmedllm was installed", fix)
    return Check(_SECTION, "clock", "ok", found)


def _core_dumps() -> Check:
    pattern = _read(Path("/proc/sys/kernel/core_pattern")).strip()
    limit, _ = resource.getrlimit(resource.RLIMIT_CORE)
    if limit == 0 and not pattern.startswith("|"):
        return Check(_SECTION, "core dumps", "ok", "off")
    place = f"go to {pattern}" if pattern.startswith(("|", "/")) else "are written to the current folder"
    fix = "a crash would write texts in memory to disk: ulimit -c 0" + (
        "; a program after | gets them despite that: see sysctl kernel.core_pattern" if pattern.startswith("|") else ""
    )
    return Check(_SECTION, "core dumps", "warning", f"{place}", fix)


def _swap(listed: Path) -> Check:
    devices = [line.split()[0] for line in _read(listed).splitlines()[1:]]
    plain = [device for device in devices if not _is_safe(device)]
    if not devices:
        return Check(_SECTION, "swap", "ok", "none")
    if not plain:
        return Check(_SECTION, "swap", "ok", f"{', '.join(devices)}: encrypted or in memory")
    fix = "texts in memory may be written there: encrypt it, or sudo swapoff -a"
    return Check(_SECTION, "swap", "warning", f"{', '.join(plain)}: not seen to be encrypted", fix)


def _is_safe(device: str) -> bool:
    """Return whether swap is compressed memory, or on an encrypted volume."""
    name = Path(device).resolve().name
    return name.startswith("zram") or _read(Path("/sys/block") / name / "dm" / "uuid").startswith("CRYPT-")


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _gib(size: float) -> str:
    return f"{size / _GIB:,.0f} GiB" if size >= 10 * _GIB else f"{size / _GIB:.1f} GiB"
