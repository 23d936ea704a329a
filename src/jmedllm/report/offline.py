"""Print the result of `jmedllm score`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jmedllm.evaluation.offline import Scored
from jmedllm.evaluation.rescore import Change
from jmedllm.evaluation.score import count_readings
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.selection import account
from jmedllm.report.details import meanings, outcome_detail, reading_counts
from jmedllm.report.table import print_detail

MISSING_SHOWN = 10


def _unscored(scored: Scored) -> int:
    """Return the number of questions without any score."""
    return len({q.id for q in scored.questions} - {name for each in scored.item_scores.values() for name in each})


def print_scored(scored: Scored, console: Console) -> None:
    """Print scores with interval, floor and ceiling, how answers were read, and pass or fail of each year."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("scorer")
    for name in ("n", "score", "95 % interval", "floor", "ceiling", "no answer"):
        table.add_column(name, justify="right")
    several = len({score.language for score in scored.scores}) > 1
    for score in scored.scores:
        interval = f"[{100 * score.low:.1f}, {100 * score.high:.1f}]"
        constant = score.constant_floor or 0.0
        floor = f"{100 * score.floor:.1f}" + (f" / {100 * constant:.1f}" if constant > score.floor else "")
        name = f"{score.scorer} {score.metric}" + (f", {score.language}" if several else "")
        table.add_row(
            name, f"{score.n:,}", f"{100 * score.value:.1f}", interval, floor,
            f"{100 * score.ceiling:.1f}", f"{score.no_answer:,}",
        )  # fmt: skip
    console.print(table)
    if any(score.constant_floor for score in scored.scores):
        console.print(Text("Floor: chance / the best constant answer, such as always the first choice.", style="dim"))
    if scored.exam_outcomes:
        console.print()
        print_detail(outcome_detail([("recorded", "", outcome) for outcome in scored.exam_outcomes]), console)
    for name, item_scores in scored.item_scores.items():
        ways = count_readings(item_scores.values())
        line = f"Scorer {name}, how answers were read: {reading_counts(ways)}. {meanings(ways)}"
        console.print(Text(line.rstrip(), style="dim"))
    if scored.left_out:
        line = account("questions", scored.selection, len(scored.questions) - _unscored(scored), scored.left_out)
        console.print(Text(line, style="dim"))
    for note in scored.notes:
        console.print(Text(note, style="dim"))
    if scored.skipped:
        shown = ", ".join(scored.skipped[:MISSING_SHOWN])
        more = f" and {len(scored.skipped) - MISSING_SHOWN} more" if len(scored.skipped) > MISSING_SHOWN else ""
        rows = f"Invalid rows of responses, skipped: {len(scored.skipped):,} ({shown}{more})."
        console.print(Text(rows, style="yellow"))
    if scored.missing:
        shown = ", ".join(scored.missing[:MISSING_SHOWN])
        more = f" and {len(scored.missing) - MISSING_SHOWN} more" if len(scored.missing) > MISSING_SHOWN else ""
        console.print(Text(f"{len(scored.missing)} questions have no response: {shown}{more}.", style="yellow"))


def _reading(scorer: str, reading: Mapping[str, Any]) -> str:
    """Format the answer that a scorer read and its value; of a graded scorer the value alone."""
    how = reading["how"] or "by probability"
    if not SCORERS[scorer].binary:
        return f"{reading['value']:.2f} ({reading['how']})" if reading["how"] else f"{reading['value']:.2f}"
    chosen = reading["chosen"] if isinstance(reading["chosen"], str) else ",".join(reading["chosen"])
    return f"{chosen or 'no answer'} ({how}), {reading['value']:g}"


CHANGES_SHOWN = 200


def print_changes(
    changes: Sequence[Change], counts: Mapping[str, Mapping[str, int]], scored: int, console: Console
) -> None:
    """Print each item that `jmedllm score --diff` found with both readings, then the counts by kind."""
    for change in changes[:CHANGES_SHOWN]:
        console.print(Text(f"{change.model} {change.task} {change.id}, scorer {change.scorer}: {change.kind}"))
        for title, reading in (("before", change.before), ("now", change.after)):
            console.print(Text(f"  {title:<6} {_reading(change.scorer, reading)}", style="dim"))
    if len(changes) > CHANGES_SHOWN:
        console.print(Text(f"... and {len(changes) - CHANGES_SHOWN:,} more; --json lists all", style="dim"))
    for scorer, kinds in counts.items():
        console.print(Text(f"scorer {scorer}: " + ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())))
    console.print(Text(f"{len(changes):,} of {scored:,} item scores differ from the stored ones. Nothing is written."))
