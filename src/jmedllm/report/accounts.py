"""What became of every item of a benchmark, for all who report on it."""

from collections.abc import Iterable, Iterator

from jmedllm.evaluation.selection import account
from jmedllm.evaluation.task import EvalResult, EvalTask


def accounts(evaluated: Iterable[EvalTask | EvalResult]) -> list[str]:
    """What each paper leaves out and why, and how its questions were read; once for all models."""
    found: dict[str, None] = {}
    for each in evaluated:
        settings = each.settings() if isinstance(each, EvalTask) else each.settings
        if each.left_out:
            name = f"{settings['benchmark']} {settings['language']}"
            found[account(name, settings["selection"], each.selected, each.left_out)] = None
        found |= dict.fromkeys(each.notes)
        if isinstance(each, EvalResult):
            found |= dict.fromkeys(_failures(each))
    return list(found)


SHOWN = 10
"""So many items are named; the summary file names all."""

WHY = {"too long": "too long for the model's context", "rejected": "refused by the server"}


def _failures(result: EvalResult) -> Iterator[str]:
    """Which items got no response."""
    for failure, ids in result.failures.items():
        more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
        yield (
            f"{result.model}, {result.settings['benchmark']} {result.settings['language']}: {len(ids):,} of "
            f"{result.asked:,} items count as no answer, {WHY[failure]}: {', '.join(ids[:SHOWN])}{more}."
        )
