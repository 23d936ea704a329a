"""Headlines: the paired comparison of each adapted model with its base, in one sentence."""

from collections.abc import Iterable, Sequence

from jmedllm.report.collect import CollectedResult
from jmedllm.report.compare import (
    SIGNIFICANT,
    Comparison,
    adjusted,
    common_scorers,
    compare_two,
    main_scorer,
)
from jmedllm.report.numbers import probability
from jmedllm.report.published import SCORER as PUBLISHED

NOTE = (
    "Difference in percentage points on the same items, with its 95 % interval, by the first scorer that both models "
    f"have ({PUBLISHED} only if there is no other). A gain or loss is shown where the paired test gives p below "
    f"{SIGNIFICANT}, adjusted for all comparisons named here."
)

_POINTS = " points ["

WIDE = 0.1
"""Width of intervals from which differences have no decimals."""


def headlines(results: Sequence[CollectedResult]) -> list[str]:
    """Return a sentence for each adapted model: its difference from its base on each task, and whether a gain is
    shown.

    Each task is compared by its main scorer, and p values are adjusted for all tasks and models. Tasks without results
    of the base are named in a sentence of their own.
    """
    pairs = {id(result): _against_base(result, results) for result in results}
    found = adjusted([each for members in pairs.values() for each in members])
    by_model: dict[str, list[Comparison]] = {}
    for each in found:
        by_model.setdefault(each.second.model, []).append(each)
    digits = int(any(each.paired.high - each.paired.low < WIDE for each in found))
    lines = [
        f"{_subject(members[0], len(by_model))}: {'; '.join(_finding(each, digits, len(found)) for each in members)}."
        for members in by_model.values()
    ]
    unchanged = {(name, each.result.model): None for each in results for name in each.unchanged}
    lines += [f"{name} is the same model as {base}: training changed nothing." for name, base in unchanged]
    unknown = [each for each in results if each.is_adapted and not pairs[id(each)]]
    without = _tasks(each for each in unknown if each.base is None)
    apart = _tasks(each for each in unknown if each.base is not None)
    if without:
        lines.append(f"Whether tuning helped on {without} is not known: the base model was not evaluated there.")
    if apart:
        lines.append(f"Whether tuning helped on {apart} is not known: base and tuned model share no scorer there.")
    return lines


def explanation(lines: Sequence[str]) -> str:
    """Return what the differences of headlines are; empty if none has a difference."""
    return NOTE if any(_POINTS in line for line in lines) else ""


def _tasks(results: Iterable[CollectedResult]) -> str:
    return ", ".join(dict.fromkeys(" ".join(each.task) for each in results))


def _against_base(result: CollectedResult, results: Sequence[CollectedResult]) -> list[Comparison]:
    """Compare a result with its base by the main scorer; empty if there is no base."""
    for base in results:
        if result.base != base.result.model or base.task != result.task:
            continue
        if scorers := common_scorers(base, result):
            main = main_scorer(scorers)
            return [each for each in compare_two(base, result) if each.scorer == main]
    return []


def _subject(each: Comparison, models: int) -> str:
    return "After tuning" if models == 1 else f"{each.second.model} against {each.first.model}"


def _finding(each: Comparison, digits: int, comparisons: int) -> str:
    """Format a finding such as "+20 points [−22, +56] on medqa en, no gain shown"."""
    pair = each.paired
    difference, low, high = (_signed(100 * value, digits) for value in (pair.difference, pair.low, pair.high))
    task = f"{each.benchmark} {each.second.language}"
    return f"{difference}{_POINTS}{low}, {high}] on {task}, {_conclusion(each, comparisons)}"


def _signed(value: float, digits: int) -> str:
    rounded = round(value, digits) or 0.0  # never "−0"
    return f"{rounded:+.{digits}f}".replace("-", "−")


def _conclusion(each: Comparison, comparisons: int) -> str:
    pair = each.paired
    if each.p_holm < SIGNIFICANT:
        return "gain shown" if pair.difference > 0 else "loss shown"
    if pair.low <= 0 <= pair.high:
        return "no gain shown"
    # The interval alone would suggest otherwise.
    adjustment = f" after adjusting for {comparisons} comparisons" if comparisons > 1 else ""
    return f"no gain shown (p = {probability(each.p_holm)}{adjustment})"
