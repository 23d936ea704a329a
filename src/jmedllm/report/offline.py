"""Print the result of `jmedllm score`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from jmedllm.evaluation.offline import Scored
from jmedllm.evaluation.rescore import Change
from jmedllm.evaluation.score import count_readings
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.selection import account
from jmedllm.report.details import meanings, outcome_detail, reading_counts
from jmedllm.report.layout import print_legend
from jmedllm.report.notes import TRUNCATED, score_notes
from jmedllm.report.rows import score_row
from jmedllm.report.table import print_detail, print_scores

MISSING_SHOWN = 10


def _unscored(scored: Scored) -> int:
    """Return the number of questions without any score."""
    return len({q.id for q in scored.questions} - {name for each in scored.item_scores.values() for name in each})


def print_scored(scored: Scored, console: Console) -> None:
    """Print scores and notes as `jmedllm report` does, how answers were read, and pass or fail of each year."""
    rows = [score_row("recorded", score) for score in scored.scores]
    print_legend(print_scores(rows, score_notes(rows), console), console)
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
    if scored.outside:
        line = f"{scored.outside:,} responses to questions outside the selection, left out."
        console.print(Text(line, style="yellow"))
    for note in scored.notes:
        console.print(Text(note, style="dim"))
    if scored.skipped:
        shown = ", ".join(scored.skipped[:MISSING_SHOWN])
        more = f" and {len(scored.skipped) - MISSING_SHOWN} more" if len(scored.skipped) > MISSING_SHOWN else ""
        line = f"Invalid rows of responses, skipped: {len(scored.skipped):,} ({shown}{more})."
        console.print(Text(line, style="yellow"))
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
    if not chosen and not hasattr(SCORERS[scorer].item_score, "answered"):  # the scorer reads no choices
        return f"{reading['how']}, {reading['value']:g}" if reading["how"] else f"{reading['value']:g}"
    return f"{chosen or 'no answer'} ({how}), {reading['value']:g}"


CHANGES_SHOWN = 200

_NOT_COMPARED = {
    "new": "new",
    "other_version": "stored by another version of their scorer",
    "dropped": "stored and no longer computed",
}


def print_changes(
    changes: Sequence[Change],
    counts: Mapping[str, Mapping[str, int]],
    item_scores: Mapping[str, int],
    truncated: Sequence[str],
    console: Console,
) -> None:
    """Print each item that `jmedllm score --diff` found with both readings, then the counts by kind.

    Args:
        changes: the items.
        counts: see `count_changes`.
        item_scores: see `count_item_scores`.
        truncated: evaluations with too many truncated responses.
        console: to print on.
    """
    for change in changes[:CHANGES_SHOWN]:
        console.print(Text(f"{change.model} {change.task} {change.id}, scorer {change.scorer}: {change.kind}"))
        for title, reading in (("before", change.before), ("now", change.after)):
            console.print(Text(f"  {title:<6} {_reading(change.scorer, reading)}", style="dim"))
    if len(changes) > CHANGES_SHOWN:
        console.print(Text(f"... and {len(changes) - CHANGES_SHOWN:,} more; --json lists all", style="dim"))
    for scorer, kinds in counts.items():
        console.print(Text(f"scorer {scorer}: " + ", ".join(f"{n:,} {kind}" for kind, n in kinds.items())))
    compared = f"{len(changes):,} of {item_scores['compared']:,} item scores differ from the stored ones."
    others = [f"{item_scores[name]:,} {words}" for name, words in _NOT_COMPARED.items() if item_scores[name]]
    more = f" Not compared: {', '.join(others)}." if others else ""
    for name in truncated:
        console.print(Text(f"† {name}: {TRUNCATED}", style="yellow"))
    console.print(Text(f"{compared}{more} Nothing is written."))
