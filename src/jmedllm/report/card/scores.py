"""What a model is worth: its exam, and its gain over the base."""

from collections.abc import Sequence

from jmedllm.evaluation.statistics import holm
from jmedllm.evaluation.task import EvalResult
from jmedllm.report.accounts import accounts
from jmedllm.report.card.markdown import table
from jmedllm.report.compare import Comparison
from jmedllm.report.table import Row, build_rows


def scores(results: Sequence[EvalResult], compared: Sequence[Comparison]) -> str:
    """All scores with their bounds, and the final model against the base."""
    rows = [row for row in build_rows(results) if not row.published]
    if not rows:
        return "Not sat."
    models = list(dict.fromkeys(row.model for row in rows))
    tasks: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        tasks.setdefault(_task(row), {})[row.model] = _score(row)
    head = ("Benchmark", "Language", "Measure", "n", "Floor", "Ceiling", *models)
    lines = [(*task, *(scores.get(name, "–") for name in models)) for task, scores in tasks.items()]
    accounted = "".join(f"\n\n{line}" for line in accounts(results))
    return (
        f"{table(head, lines)}\n\nAll in %, with the 95 % interval. Floor: what no skill earns on these items; "
        "ceiling: what the right answer earns. ~: the interval reaches down to the floor, so no skill is shown."
        f"{accounted}\n\n{_gain(compared)}"
    )


def _task(row: Row) -> tuple[str, ...]:
    bounds = [f"{100 * each:.1f}" if each is not None else "–" for each in (row.floor, row.ceiling)]
    return row.benchmark, row.language, row.measure.replace("_", " "), f"{row.n or 0:,}", *bounds


def _score(row: Row) -> str:
    low, high = row.interval or (0.0, 1.0)
    return f"{100 * row.value:.1f}{row.mark} ({100 * low:.1f} to {100 * high:.1f})"


def _gain(compared: Sequence[Comparison]) -> str:
    """The final model against the base, item by item."""
    if not compared:
        return "The final model was not compared with its base: there is no paper that both sat."
    adjusted = holm([each.paired.p for each in compared])
    rows = [
        (
            each.benchmark,
            each.scorer,
            f"{each.first} → {each.second}",
            f"{each.paired.n:,}",
            f"{100 * each.paired.difference:+.1f}",
            f"{100 * each.paired.low:+.1f} to {100 * each.paired.high:+.1f}",
            f"{each.paired.p:.3f}",
            f"{p:.3f}",
        )
        for each, p in zip(compared, adjusted, strict=True)
    ]
    head = ("Benchmark", "Track", "Base → final", "n", "Difference", "95 % interval", "p", "p (Holm)")
    return (
        f"{table(head, rows)}\n\nDifference in points on the same items; p: exact McNemar, and adjusted for all "
        "rows of this table. An interval that holds 0 shows no gain."
    )
