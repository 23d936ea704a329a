"""The number of threads for computing on a CPU."""

import os
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(cpus: Path = _CPUS, quota: Path = _QUOTA) -> int:
    """Return the number of physical cores that this process may use.

    Two threads of one core compete for the same units, so that more threads than cores make an answer slower.

    Args:
        cpus: directory in which Linux describes the CPUs.
        quota: file with the limit of the control group.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    cores = {_core(cpus / f"cpu{number}" / "topology", number) for number in allowed}
    return min(len(cores), _limit(quota, len(cores)))


def _core(topology: Path, number: int) -> tuple[str, ...]:
    try:
        return tuple((topology / name).read_text().strip() for name in ("physical_package_id", "core_id"))
    except OSError:
        return (str(number),)


def _limit(quota: Path, cores: int) -> int:
    try:
        most, period = quota.read_text().split()
        return cores if most == "max" else max(1, int(most) // int(period))
    except (OSError, ValueError):
        return cores
