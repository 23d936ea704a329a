"""What became of every item of a benchmark, for all who report on it."""

from collections.abc import Iterable

from jmedllm.exam.selection import account
from jmedllm.exam.sitting import Paper, Sitting


def accounts(evaluated: Iterable[Paper | Sitting]) -> list[str]:
    """What each paper leaves out and why, and how its questions were read; once for all models."""
    found: dict[str, None] = {}
    for each in evaluated:
        settings = each.settings() if isinstance(each, Paper) else each.settings
        if each.left_out:
            name = f"{settings['benchmark']} {settings['language']}"
            found[account(name, settings["selection"], each.selected, each.left_out)] = None
        found |= dict.fromkeys(each.notes)
    return list(found)
