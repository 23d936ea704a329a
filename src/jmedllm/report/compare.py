"""Paired comparisons, item by item: between models, and between Japanese and English of one model."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from jmedllm.errors import InputError
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.statistics import Paired, compare_pairs, holm
from jmedllm.report.collect import CollectedResult
from jmedllm.report.published import SCORER as PUBLISHED

SIGNIFICANT = 0.05
"""Adjusted p below which a difference is shown."""


@dataclass(frozen=True, slots=True)
class Side:
    """A model in one language."""

    model: str
    language: str

    @property
    def name(self) -> str:
        """Return the name in tables, such as "base ja"."""
        return f"{self.model} {self.language}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides on the items for which both have scores.

    Attributes:
        kind: two models on one benchmark and language, or one model's two languages.
        paired: difference of their accuracies, the second's minus the first's.
        p_holm: p of `paired`, adjusted for all comparisons of this table (Holm 1979).
    """

    kind: Literal["models", "languages"]
    benchmark: str
    scorer: str
    first: Side
    second: Side
    paired: Paired
    p_holm: float = 1.0

    @property
    def title(self) -> str:
        """Return both sides, without repeating what they share."""
        if self.kind == "models":
            return f"{self.first.model} → {self.second.model}"
        return f"{self.first.model}: {self.first.language} → {self.second.language}"


def compare(results: Sequence[CollectedResult]) -> list[Comparison]:
    """Compare every two models on every task that both were evaluated on, and each model's Japanese with its English.

    Raises:
        InputError: two models were evaluated on different versions of a task.
    """
    return adjusted([each for pair in combinations(results, 2) for each in compare_two(*pair)])


def adjusted(found: Sequence[Comparison]) -> list[Comparison]:
    """Adjust the p values for all comparisons."""
    ps = holm([each.paired.p for each in found])
    return [replace(each, p_holm=p) for each, p in zip(found, ps, strict=True)]


def compare_two(first: CollectedResult, second: CollectedResult) -> Iterator[Comparison]:
    """Yield a comparison for each common scorer, if task or model is the same."""
    same_task = first.task == second.task
    other_language = first.result.model == second.result.model and first.task[0] == second.task[0]
    if not (same_task or other_language) or (same_task and other_language):
        return
    for scorer in common_scorers(first, second):
        scored = [{id: item for id, item in each.items.items() if scorer in item.scores} for each in (first, second)]
        common = [id for id in scored[0] if id in scored[1]]
        if not common:
            continue
        if same_task and any(scored[0][id].question_hash != scored[1][id].question_hash for id in common):
            models = f"{first.result.model} and {second.result.model}"
            raise InputError(f"{models} were evaluated on different versions of {' '.join(first.task)}")
        values = [[each.value(id, scorer) for id in common] for each in (first, second)]
        single = not any(each.sampled and SCORERS[scorer].needs == "response" for each in (first, second))
        pair = compare_pairs(*values, binary=SCORERS[scorer].binary and single)
        kind: Literal["models", "languages"] = "models" if same_task else "languages"
        yield Comparison(kind, first.task[0], scorer, _side(first), _side(second), pair)


def common_scorers(first: CollectedResult, second: CollectedResult) -> list[str]:
    """Return the common scorers as the evaluation orders them, without those that read the same answers as another.

    Scorers that `jmedllm score` adds come last, so that they do not change what a summary compares.
    """
    both = [name for name in first.result.settings["scorers"] if name in second.result.settings["scorers"]]
    return [name for name in both if SCORERS[name].same_answers_as not in both]


def published_last(scorers: Iterable[str]) -> list[str]:
    """Return the scorers once each, that of the published protocol last, because its scores are least informative."""
    return sorted(dict.fromkeys(scorers), key=lambda name: name == PUBLISHED)


def main_scorer(scorers: Sequence[str]) -> str:
    """Return the main scorer of a summary: the first, or the published protocol's if there is no other."""
    return published_last(scorers)[0]


def _side(collected: CollectedResult) -> Side:
    return Side(collected.result.model, collected.task[1])


NOTE = (
    "Difference in percentage points, second minus first, on the items that both answered. −/+: items that only the "
    "first or only the second got right, or on which it has the higher score. p: exact McNemar test, for graded "
    "scores and means of several samples a permutation test over items; p (Holm): adjusted for all rows; bold below "
    "0.05. Min. detectable: minimum detectable difference, the smallest that this many items show with 80 % power."
)
