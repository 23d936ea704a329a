"""One line of the report."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "fix"]

STATUSES: tuple[Status, ...] = ("ok", "warning", "fix")
"""From best to worst. A warning is for you to judge; what is to fix makes a command fail, or shows text to others."""


@dataclass(frozen=True, slots=True)
class Check:
    """A line of the report.

    Attributes:
        section: software, machine, network, variables or permissions.
        name: what was checked.
        found: what was found.
        fix: what to do, unless the status is ok.
    """

    section: str
    name: str
    status: Status
    found: str
    fix: str = ""


def worst(checks: Iterable[Check]) -> Status:
    """Return the worst status; ok if there is no check."""
    return max((check.status for check in checks), key=STATUSES.index, default="ok")
