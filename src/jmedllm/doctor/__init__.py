"""What `jmedllm doctor` reports of this machine: software, hardware, network, settings and permissions."""

import os
from collections.abc import Sequence
from pathlib import Path

from jmedllm.doctor.check import STATUSES, Check, Status, worst
from jmedllm.doctor.machine import check_machine
from jmedllm.doctor.network import check_network
from jmedllm.doctor.permissions import check_permissions
from jmedllm.doctor.software import check_software
from jmedllm.doctor.table import table
from jmedllm.doctor.variables import check_variables

__all__ = ["STATUSES", "Check", "Status", "check_all", "table", "worst"]


def check_all(paths: Sequence[Path]) -> list[Check]:
    """Check this machine. Opens no connection, imports no torch, and changes nothing.

    Args:
        paths: data and run directories; the usual ones of the current directory if none is given.

    Raises:
        InputError: one of `paths` does not exist.
    """
    permissions = check_permissions(paths)  # first, because a path may not exist
    others = (*check_software(), *check_machine(paths), *check_network(), *check_variables(os.environ))
    return [*others, *permissions]
