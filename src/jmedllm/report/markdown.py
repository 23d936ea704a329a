"""The scores of a report as Markdown."""

from collections.abc import Sequence

from jmedllm.evaluation.result import EvalResult
from jmedllm.markdown import bullets, table
from jmedllm.report.details import Detail, details
from jmedllm.report.notes import footnotes
from jmedllm.report.numbers import count, interval, percent
from jmedllm.report.rows import Row, build_rows


def markdown(results: Sequence[EvalResult], headlines: Sequence[str] = ()) -> str:
    """Format headlines, scores with notes, details, and the hashes that trace the scores."""
    rows = build_rows(results)
    head = ("Model", "Benchmark", "Language", "Scorer", "Metric", "n", "Score", "95 % interval", "Floor", "Ceiling")
    scores = table((*head, "No answer", "Note"), map(_cells, rows), ["---"] * 5 + ["---:"] * 6 + ["---"])
    parts = [
        "## Scores",
        *([bullets(f"**{line}**" for line in headlines)] if headlines else []),
        scores,
        bullets(footnotes(results, rows, ("at the floor: ", ""))),
        *map(_detail, details(results)),
        f"## Trace\n\n{_trace(results)}",
    ]
    return "\n\n".join(parts) + "\n"


def _cells(row: Row) -> tuple[str, ...]:
    marks = (
        ("published", row.published),
        ("contaminated", row.contaminated),
        ("at the floor", row.at_floor),
        ("†", row.is_truncated),
    )
    notes = [name for name, is_so in marks if is_so] + ([row.note] if row.note else [])
    return (
        f"*{row.model}*" if row.published else row.model,
        row.benchmark,
        row.language,
        row.scorer,
        row.metric,
        row.items,
        percent(row.value),
        interval(row.interval),
        row.floors,
        percent(row.ceiling),
        count(row.no_answer),
        "; ".join(notes),
    )


def _detail(detail: Detail) -> str:
    return f"## {detail.title}\n\n{detail_table(detail)}"


def detail_table(detail: Detail) -> str:
    """Format a table of details with its note."""
    head = ("model", "task", *(column.heading for column in detail.columns))
    rows = ((row.model, row.task, *row.cells) for row in detail.rows)
    return f"{table(head, rows)}\n\n{detail.note}"


def _trace(results: Sequence[EvalResult]) -> str:
    """Format the hashes of model, prompt, questions and samples of every result."""
    head = ("Model", "Task", "Model fingerprint", "Precision", "Prompt pack", "Questions", "Samples", "jmedllm")
    rows = []
    for result in results:
        settings, trace = result.settings, result.trace
        adapter = settings.get("adapter_fingerprint")
        rows.append(
            (
                result.model,
                f"{settings['benchmark']} {settings['language']}",
                settings["fingerprint"] + (f" + {adapter}" if adapter else ""),
                settings.get("precision", "-"),
                f"{settings['prompt_pack']} {settings['prompt_pack_hash']}",
                trace["questions"],
                trace["samples"],
                trace["jmedllm"],
            )
        )
    return table(head, rows)
