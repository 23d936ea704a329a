"""Comparing exams item by item: models with one another, and one model's Japanese with its English."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jmedllm.errors import InputError
from jmedllm.evaluation.records import Record
from jmedllm.evaluation.scorers import SCORERS, item_score_of
from jmedllm.evaluation.statistics import Paired, holm, paired
from jmedllm.report.collect import CollectedResult


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two answerers on the items both were judged on.

    Attributes:
        kind: two models on one paper, or one model's two languages.
        first: model and language of the one.
        second: of the other.
        paired: difference of their accuracies, the second's minus the first's.
        p_holm: the probability in `paired`, adjusted for all comparisons of this table (Holm 1979).
    """

    kind: Literal["models", "languages"]
    benchmark: str
    scorer: str
    first: str
    second: str
    paired: Paired
    p_holm: float = 1.0


def compare(sat: Sequence[CollectedResult]) -> list[Comparison]:
    """Every pair of models on every paper both sat, and each model's Japanese against its English.

    Raises:
        InputError: two sat different versions of a paper.
    """
    found = [each for pair in combinations(sat, 2) for each in _compare_two(*pair)]
    adjusted = holm([each.paired.p for each in found])
    return [replace(each, p_holm=p) for each, p in zip(found, adjusted, strict=True)]


def _compare_two(first: CollectedResult, second: CollectedResult) -> Iterator[Comparison]:
    same_task = first.task == second.task
    other_language = first.result.model == second.result.model and first.task[0] == second.task[0]
    if not (same_task or other_language) or (same_task and other_language):
        return
    its, others = first.records, second.records
    for scorer in _scorers(first, second):
        common = [
            key
            for key in its
            if key in others and scorer in its[key].item_scores and scorer in others[key].item_scores
        ]
        if not common:
            continue
        if same_task and any(its[key].question_hash != others[key].question_hash for key in common):
            models = f"{first.result.model} and {second.result.model}"
            raise InputError(f"{models} sat different versions of {' '.join(first.task)}")
        right = [[_is_right(scorer, records[key]) for key in common] for records in (its, others)]
        kind: Literal["models", "languages"] = "models" if same_task else "languages"
        yield Comparison(kind, first.task[0], scorer, _name(first), _name(second), paired(*right))


def _scorers(first: CollectedResult, second: CollectedResult) -> list[str]:
    """Tracks that judged both; official only where answer, which reads the same choices, did not."""
    both = [name for name in SCORERS if all(name in each.result.settings["scorers"] for each in (first, second))]
    return [name for name in both if name != "official" or "answer" not in both]


def _is_right(scorer: str, record: Record) -> bool:
    return bool(item_score_of(scorer, record.item_scores[scorer]).correct)


def _name(sat: CollectedResult) -> str:
    return f"{sat.result.model} {sat.task[1]}"


def print_comparisons(found: Sequence[Comparison], console: Console) -> None:
    """One row for each comparison, and what the columns mean."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("benchmark", "scorer", "first → second"):
        table.add_column(name, overflow="fold")
    for name in ("n", "−/+", "difference", "95 %", "p", "Holm", "could show"):
        table.add_column(name, justify="right", no_wrap=True)
    for each in found:
        pair = each.paired
        table.add_row(
            each.benchmark,
            each.scorer,
            f"{each.first} → {each.second}",
            f"{pair.n:,}",
            f"{pair.only_first}/{pair.only_second}",
            f"{100 * pair.difference:+.1f}",
            f"[{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]",
            _probability(pair.p),
            _probability(each.p_holm),
            f"{100 * pair.detectable:.1f}",
            style="bold" if each.p_holm < 0.05 else "",
        )
    console.print(table)
    console.print(Text(NOTE, style="dim"))


NOTE = (
    "Differences of accuracy in points, second minus first, on the items both answered. −/+: items that only the "
    "first or only the second got right. p: exact McNemar; Holm: adjusted for all rows; bold below 0.05. Could "
    "show: the smallest difference that so many items, disagreeing so often, show in four of five experiments."
)


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
