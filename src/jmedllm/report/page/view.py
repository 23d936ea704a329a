"""Data of the page besides items, in the order of its template."""

from collections.abc import Sequence
from dataclasses import dataclass

from jmedllm.evaluation.human_baseline import BaselineGroup
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.scorers.base import ExamOutcome
from jmedllm.report.published import SCORER as PUBLISHED
from jmedllm.report.rows import Row


@dataclass(frozen=True, slots=True)
class ScoreColumn:
    """Heading of a task in a matrix; values are None if the models' items differ."""

    benchmark: str
    language: str
    items: str | None
    floors: str | None
    ceiling: float | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """Scores of one measure by model and task. Each line is a model's name and its row for each column, or None."""

    measure: str
    columns: tuple[ScoreColumn, ...]
    ours: tuple[tuple[str, tuple[Row | None, ...]], ...]
    published: tuple[tuple[str, tuple[Row | None, ...]], ...]


def matrices(rows: Sequence[Row]) -> list[Matrix]:
    """Build one matrix for each measure, that of the published protocol last, because its scores are least
    informative."""
    measures = dict.fromkeys(row.measure for row in rows if not row.published)
    measures = dict.fromkeys(sorted(measures, key=lambda measure: measure.startswith(f"{PUBLISHED} ")))
    return [_matrix(measure, [row for row in rows if row.measure == measure]) for measure in measures]


def _matrix(measure: str, rows: Sequence[Row]) -> Matrix:
    tasks = list(dict.fromkeys((row.benchmark, row.language) for row in rows if not row.published))

    def lines(published: bool) -> tuple[tuple[str, tuple[Row | None, ...]], ...]:
        found = {(row.model, row.benchmark, row.language): row for row in rows if row.published == published}
        models = dict.fromkeys(model for model, *_ in found)
        return tuple((model, tuple(found.get((model, *task)) for task in tasks)) for model in models)

    return Matrix(measure, tuple(_column(task, rows) for task in tasks), lines(False), lines(True))


def _column(task: tuple[str, str], rows: Sequence[Row]) -> ScoreColumn:
    here = {
        (row.items, row.floors, row.ceiling)
        for row in rows
        if (row.benchmark, row.language) == task and not row.published
    }
    items, floors, ceiling = here.pop() if len(here) == 1 else (None, None, None)
    return ScoreColumn(*task, items, floors, ceiling)


@dataclass(frozen=True, slots=True)
class Groups:
    """Difficulty bands or subjects of one task by one scorer.

    Attributes:
        rows: for each group its name, the largest number of items of a model, the examinees' share right, and the
            index and result of each model.
    """

    benchmark: str
    language: str
    scorer: str
    kind: str
    rows: tuple[tuple[str, int, float | None, tuple[tuple[int, BaselineGroup], ...]], ...]


def groups(results: Sequence[EvalResult], models: Sequence[str]) -> list[Groups]:
    """Build the groups of each task with all models; difficulty before subjects."""
    found: dict[tuple[str, str, str, str], dict[str, list[tuple[int, BaselineGroup]]]] = {}
    for result in results:
        for group in result.human_baseline:
            key = (result.settings["benchmark"], result.settings["language"], group.scorer, group.kind)
            names = found.setdefault(key, {})
            names.setdefault(group.name, []).append((models.index(result.model), group))
    return [
        Groups(
            *key,
            tuple(
                (name, max(g.n for _, g in members), members[0][1].examinees, tuple(members))
                for name, members in names.items()
            ),
        )
        for key, names in sorted(found.items(), key=lambda item: item[0][3])
    ]


def outcome_lines(results: Sequence[EvalResult]) -> list[tuple[EvalResult, dict[str, ExamOutcome]]]:
    """Return results scored by the ministry's rule, with their outcome by exam."""
    return [
        (each, {outcome.exam: outcome for outcome in each.exam_outcomes}) for each in results if each.exam_outcomes
    ]
