"""The report as a table for the terminal."""

import textwrap
from collections.abc import Callable, Sequence
from itertools import groupby

from rich.cells import cell_len

from jmedllm.doctor.check import STATUSES, Check
from jmedllm.output import visible

_STATUS, _NAME = 9, 14
"""Columns of the status and the name."""


def table(checks: Sequence[Check], width: int, paint: Callable[[str, str], str]) -> str:
    """Format the report.

    Args:
        checks: the checks, in the order of their sections.
        width: columns of the terminal.
        paint: colours a text by a status.
    """
    lines = []
    for section, members in groupby(checks, key=lambda check: check.section):
        lines += [section, *(line for check in members for line in _rows(check, width, paint)), ""]
    counts = {status: sum(check.status == status for check in checks) for status in STATUSES}
    lines.append(", ".join(f"{count} {status}" for status, count in counts.items() if count))
    return "\n".join(lines)


def _rows(check: Check, width: int, paint: Callable[[str, str], str]) -> list[str]:
    indent = 2 + _STATUS + _NAME
    texts = [visible(check.found), *([f"→ {visible(check.fix)}"] if check.fix else [])]
    room = max(20, width - indent)
    wrapped = [
        line
        for text in texts
        for line in textwrap.wrap(text, room, break_on_hyphens=False, subsequent_indent="  " * text.startswith("→"))
    ]
    name = visible(check.name)
    if cell_len(name) >= _NAME:
        wrapped = ["", *wrapped]
    padded = name + " " * (_NAME - cell_len(name))
    first = f"  {paint(check.status, f'{check.status:<{_STATUS}}')}{padded}{wrapped[0]}".rstrip()
    return [first, *(" " * indent + line for line in wrapped[1:])]
