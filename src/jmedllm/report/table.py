"""Print the report: measured and published scores, notes, details and comparisons."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from rich.console import Console
from rich.text import Text

from jmedllm.evaluation.result import EvalResult
from jmedllm.report.compare import NOTE as COMPARED_NOTE
from jmedllm.report.compare import SIGNIFICANT, Comparison
from jmedllm.report.details import Detail, details
from jmedllm.report.headline import explanation
from jmedllm.report.layout import Column, Grid, Line, Names, print_grid, print_legend
from jmedllm.report.notes import footnotes
from jmedllm.report.numbers import interval, percent, probability
from jmedllm.report.rows import Row, build_rows

_COLUMNS = tuple(map(Column, ("n", "score", "95 % interval", "floor", "ceiling")))


def print_table(results: Sequence[EvalResult], console: Console, headlines: Sequence[str] = ()) -> None:
    """Print the headlines, a table for each benchmark and language with a group for each metric, notes and details."""
    print_headlines(headlines, console)
    rows = build_rows(results)
    legend = print_scores(rows, footnotes(results, rows), console)
    for detail in details(results):
        console.print()
        legend |= print_detail(detail, console)
    if legend:
        console.print()
    print_legend(legend, console)


def print_headlines(headlines: Sequence[str], console: Console) -> None:
    """Print the headlines with an explanation."""
    for line in headlines:
        console.print(Text(line, style="bold"))
    if note := explanation(headlines):
        console.print(Text(note, style="dim"))
    if headlines:
        console.print()


def print_scores(rows: Sequence[Row], notes: Sequence[str], console: Console) -> dict[str, str]:
    """Print a table of scores for each benchmark and language, then notes.

    Returns:
        The legend of shortened names.
    """
    legend: dict[str, str] = {}
    for (benchmark, language), members in groupby(rows, key=lambda row: (row.benchmark, row.language)):
        legend |= _print_task(f"{benchmark} {language}", list(members), console)
        console.print()
    for note in notes:
        console.print(Text(note, style="dim"))
    return legend


def _print_task(title: str, rows: Sequence[Row], console: Console) -> dict[str, str]:
    def build(names: Names) -> Grid:
        groups = groupby(rows, key=lambda row: row.measure)
        return Grid(
            title,
            _COLUMNS,
            tuple(
                (measure.replace("_", " "), tuple(_line(row, names) for row in members)) for measure, members in groups
            ),
        )

    return print_grid(build, [row.model for row in rows], console)


def _line(row: Row, names: Names) -> Line:
    cells = (
        row.items,
        percent(row.value) + (row.mark or " "),
        "published" if row.published else interval(row.interval),
        row.floors,
        percent(row.ceiling),
    )
    return Line(names[row.model], cells, "dim" if row.published else "")


def print_detail(detail: Detail, console: Console) -> dict[str, str]:
    """Print a table of details, grouped by task; a scorer that all rows have becomes part of the caption.

    Returns:
        The legend of shortened names.
    """
    same = {
        index: detail.rows[0].cells[index]
        for index, column in enumerate(detail.columns)
        if column.heading == "scorer" and len({row.cells[index] for row in detail.rows}) == 1
    }
    common = "".join(f", scorer {value}" for value in same.values())
    kept = [index for index in range(len(detail.columns)) if index not in same]

    def build(names: Names) -> Grid:
        groups: dict[str, list[Line]] = {}
        for row in detail.rows:
            cells = tuple(row.cells[index] for index in kept)
            groups.setdefault(row.task, []).append(Line(names[row.model], cells))
        return Grid(
            "model",
            tuple(detail.columns[index] for index in kept),
            tuple((f"{task}{common}" if task else "", tuple(lines)) for task, lines in groups.items()),
        )

    console.print(Text(detail.title, style="bold"))
    legend = print_grid(build, [row.model for row in detail.rows], console)
    console.print(Text(detail.note.rstrip(), style="dim"))
    return legend


_COMPARED = ("n", "−/+", "difference", "95 % interval", "p", "p (Holm)", "min. detectable")


def print_comparisons(found: Sequence[Comparison], console: Console) -> None:
    """Print one row for each comparison, and the meaning of the columns."""

    def build(names: Names) -> Grid:
        groups: dict[str, list[Line]] = {}
        for each in found:
            short = replace(
                each,
                first=replace(each.first, model=names[each.first.model]),
                second=replace(each.second, model=names[each.second.model]),
            )
            groups.setdefault(_caption(each), []).append(Line(short.title, _cells(each), _style(each)))
        return Grid("first → second", tuple(map(Column, _COMPARED)), tuple((k, tuple(v)) for k, v in groups.items()))

    legend = print_grid(build, [side.model for each in found for side in (each.first, each.second)], console)
    print_legend(legend, console)
    console.print(Text(COMPARED_NOTE, style="dim"))


def _caption(each: Comparison) -> str:
    task = f"{each.benchmark} {each.first.language}" if each.kind == "models" else each.benchmark
    return f"{task}, scorer {each.scorer}"


def _cells(each: Comparison) -> tuple[str, ...]:
    pair = each.paired
    return (
        f"{pair.n:,}",
        f"{pair.only_first}/{pair.only_second}",
        f"{100 * pair.difference:+.1f}",
        f"[{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]",
        probability(pair.p),
        probability(each.p_holm),
        f"{100 * pair.detectable:.1f}",
    )


def _style(each: Comparison) -> str:
    return "bold" if each.p_holm < SIGNIFICANT else ""
