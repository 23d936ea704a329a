"""Section of the model card on evaluation: scores, and differences from the base."""

from collections.abc import Sequence

from jmedllm.evaluation.exam_years import RELEASED
from jmedllm.evaluation.result import EvalResult
from jmedllm.markdown import table
from jmedllm.report.compare import Comparison, adjusted
from jmedllm.report.details import EXAM_YEARS_NOTE, exam_year_cells, outcome_detail, response_detail
from jmedllm.report.markdown import detail_table
from jmedllm.report.notes import AT_FLOOR, item_notes, row_notes
from jmedllm.report.numbers import percent, probability
from jmedllm.report.rows import Row, build_rows


def scores(results: Sequence[EvalResult], compared: Sequence[Comparison]) -> str:
    """Format all scores with floor, ceiling and interval, and the comparison of the final model with the base."""
    rows = [row for row in build_rows(results) if not row.published]
    if not rows:
        return "Not evaluated."
    models = list(dict.fromkeys(row.model for row in rows))
    tasks: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        tasks.setdefault(_task(row), {})[row.model] = _score(row)
    head = ("Benchmark", "Language", "Measure", "n", "Floor", "Ceiling", *models)
    lines = [(*task, *(scores.get(name, "–") for name in models)) for task, scores in tasks.items()]
    notes = "".join(f"\n\n{line}" for line in (*row_notes(rows), *item_notes(results)))
    detail = response_detail(results)
    lengths = f"\n\n{detail_table(detail)}" if detail else ""
    return (
        f"{table(head, lines)}\n\nAll in %, with the 95 % interval. Floor: the score without any skill on these "
        "items; ceiling: the score of the right answers. "
        f"~: {AT_FLOOR}{notes}{lengths}\n\n{_outcomes(results)}{_exam_years(results)}{_gain(compared)}"
    )


def _outcomes(results: Sequence[EvalResult]) -> str:
    """Format pass or fail of each licence exam, with an empty line behind; empty if no scorer computes it."""
    outcomes = [
        (result.model, f"{result.settings['benchmark']} {result.settings['language']}", outcome)
        for result in results
        for outcome in result.exam_outcomes
    ]
    if not outcomes:
        return ""
    detail = outcome_detail(outcomes)
    head = ("Model", "Task", *(column.heading or "outcome" for column in detail.columns))
    rows = [(row.model, row.task, *row.cells) for row in detail.rows]
    return f"{table(head, rows)}\n\n{detail.title}. {detail.note}\n\n"


def _exam_years(results: Sequence[EvalResult]) -> str:
    """Format the scores of each licence exam, with an empty line behind; empty if there are none."""
    rows = [
        (result.model, f"{result.settings['benchmark']} {result.settings['language']}", *cells)
        for result in results
        for each in result.exam_years
        for cells in (exam_year_cells(each, result.source.get(RELEASED)),)
    ]
    if not rows:
        return ""
    head = ("Model", "Task", "Exam", "n", "Score", "95 % interval", "Took place")
    return f"{table(head, rows)}\n\n{EXAM_YEARS_NOTE}\n\n"


def _task(row: Row) -> tuple[str, ...]:
    return row.benchmark, row.language, row.measure.replace("_", " "), row.items, row.floors, percent(row.ceiling)


def _score(row: Row) -> str:
    low, high = row.interval or (0.0, 1.0)
    return f"{100 * row.value:.1f}{row.mark} ({100 * low:.1f} to {100 * high:.1f})"


def _gain(compared: Sequence[Comparison]) -> str:
    """Format the paired comparison of the final model with the base."""
    if not compared:
        return "The final model was not compared with its base: no task has results of both."
    rows = [
        (
            f"{each.benchmark} {each.second.language}",
            each.scorer,
            each.title,
            f"{each.paired.n:,}",
            f"{100 * each.paired.difference:+.1f}",
            f"{100 * each.paired.low:+.1f} to {100 * each.paired.high:+.1f}",
            probability(each.paired.p),
            probability(each.p_holm),
        )
        for each in adjusted(compared)
    ]
    head = ("Task", "Scorer", "Models", "n", "Difference", "95 % interval", "p", "p (Holm)")
    return (
        f"{table(head, rows)}\n\nDifference in percentage points on the same items; p: exact McNemar test, "
        "for graded scores and means of several samples a permutation test; p (Holm): "
        "adjusted for all rows. An interval that includes 0 shows no gain."
    )
