"""Small tables of results besides scores: readings, the ministry's pass rule, examinees, rotations, calibration."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jmedllm.evaluation.exam_years import RELEASED, ExamYear, beside_release
from jmedllm.evaluation.human_baseline import BaselineGroup
from jmedllm.evaluation.reading import NO_ANSWER
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.rotations import Rotations
from jmedllm.evaluation.scorers.base import ExamOutcome
from jmedllm.evaluation.scorers.official import MOST_PROHIBITED
from jmedllm.report.layout import Column
from jmedllm.report.numbers import interval, percent


@dataclass(frozen=True, slots=True)
class DetailRow:
    """Row of a model; `task` is empty if there is only one."""

    model: str
    task: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Detail:
    """A table of texts with an explanatory note.

    Attributes:
        columns: columns after model and task.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[DetailRow, ...]
    note: str


def details(results: Sequence[EvalResult]) -> Iterator[Detail]:
    """Yield all tables that have rows, with models in the given order."""
    if rows := _rows(results, _reading_cells):
        yield Detail(
            "How answers were read",
            (_SCORER, Column("n"), Column("how", is_text=True)),
            rows,
            "Most frequent first, with the reason where there is no answer; an answer is never guessed. "
            + meanings(how for result in results for counts in result.readings.values() for how in counts),
        )
    if outcomes := [(each.model, _task(each), outcome) for each in results for outcome in each.exam_outcomes]:
        yield outcome_detail(outcomes)
    if rows := _rows(results, _exam_year_cells):
        yield Detail(
            "Licence exam by year",
            (_SCORER, *map(Column, ("exam", "n", "score", "95 % interval", "took place"))),
            rows,
            EXAM_YEARS_NOTE,
        )
    if rows := _rows(results, lambda result: map(_group_cells, _known_groups(result.human_baseline))):
        yield Detail(
            "Compared with the human examinees",
            (
                _SCORER,
                Column("items", is_text=True),
                *map(Column, ("n", "right", "95 % interval", "examinees")),
            ),
            rows,
            "All values in %. Items are grouped by the share of human examinees who were right, and by the "
            f"{SUBJECTS_SHOWN} largest subjects; the summary file has all subjects.",
        )
    if rows := _rows(results, lambda result: map(_rotation_cells, result.rotations)):
        yield Detail(
            "Order of the choices",
            tuple(
                map(Column, ("scorer", "rotations", "n", "accuracy", "same answer", "95 % interval", "position bias"))
            ),
            rows,
            "Accuracy: mean over all rotations. Same answer: questions with the same answer in every rotation, in %. "
            "Position bias: the place picked most often beyond how often it is right, in percentage points.",
        )
    if rows := _rows(results, _calibration_cells):
        yield Detail(
            "Calibration",
            tuple(map(Column, ("n", "ECE", "Brier score"))),
            rows,
            "From the probabilities of the choices, on items with one right choice. ECE: expected calibration error, "
            "the mean distance between confidence and share right, in percentage points. Brier score: from 0 "
            "(perfect) to 2; guessing evenly among four choices gives 0.75, among five 0.8.",
        )


_SCORER = Column("scorer", is_text=True)
_ROTATION_HEADINGS = ("rotations", "n", "accuracy", "same answer", "95 % interval", "position bias")


def _rows(
    results: Sequence[EvalResult], cells: Callable[[EvalResult], Iterable[tuple[str, ...]]]
) -> tuple[DetailRow, ...]:
    return tuple(DetailRow(result.model, _task(result), row) for result in results for row in cells(result))


def _task(result: EvalResult) -> str:
    return f"{result.settings['benchmark']} {result.settings['language']}"


def _reading_cells(result: EvalResult) -> Iterator[tuple[str, ...]]:
    for scorer, counts in result.readings.items():
        yield scorer, f"{sum(counts.values()):,}", reading_counts(counts)


def reading_counts(counts: Mapping[str, int]) -> str:
    """Format the counts of ways in which responses were read, and of reasons for no answer."""
    return ", ".join(f"{'no answer: ' if how in NO_ANSWER else ''}{how} {n:,}" for how, n in counts.items())


def meanings(ways: Iterable[str]) -> str:
    """Explain the reasons for no answer among `ways`, one sentence each."""
    return " ".join(f"{how.capitalize()}: {NO_ANSWER[how]}." for how in dict.fromkeys(ways) if how in NO_ANSWER)


def outcome_detail(outcomes: Sequence[tuple[str, str, ExamOutcome]]) -> Detail:
    """Build the table of points, pass marks and pass or fail by model and task."""
    prohibited: dict[str, list[str]] = {}
    for model, task, outcome in outcomes:
        if outcome.prohibited_items:
            prohibited.setdefault(f"{model} {task}".strip(), []).extend(outcome.prohibited_items)
    headings = ("exam", "right", "points", "95 %", "required", "general", "prohibited", "pictures")
    return Detail(
        "Licence exam by the ministry's pass rule",
        (*map(Column, headings), Column("", is_text=True)),
        tuple(
            DetailRow(
                model,
                task,
                (
                    f"{outcome.exam} {outcome.year}",
                    f"{outcome.correct}/{outcome.n}",
                    f"{outcome.points}/{outcome.max_points}",
                    f"{outcome.points_low}-{outcome.points_high}",
                    f"{outcome.required}/{_mark(outcome.required_mark)}",
                    f"{outcome.general}/{_mark(outcome.general_mark)}",
                    f"{outcome.prohibited}/{MOST_PROHIBITED}" if outcome.prohibited_known else "unknown",
                    f"{outcome.image_correct}/{outcome.image_n}",
                    outcome.decision,
                ),
            )
            for model, task, outcome in outcomes
        ),
        "Exam: number and year. Points: of the maximum, with their 95 % interval. Required, general: points of those "
        "needed to pass. Prohibited: items on which a prohibited choice was picked, of the number allowed. Pictures: "
        "right answers to items whose picture is not in the data."
        + "".join(f" Prohibited choices by {who}: {', '.join(ids)}." for who, ids in prohibited.items()),
    )


EXAM_YEARS_NOTE = (
    "All values in %. Took place: before or after the release of the model, or of the base of an adapted model. An "
    "exam before the release may be in the training data; a later one cannot be."
)


def _exam_year_cells(result: EvalResult) -> Iterator[tuple[str, ...]]:
    for each in result.exam_years:
        yield each.scorer, *exam_year_cells(each, result.source.get(RELEASED))


def exam_year_cells(found: ExamYear, released: str | None) -> tuple[str, ...]:
    """Format the exam, its number of items, its score with the interval, and its place beside the release."""
    return (
        f"{found.exam} {found.year}",
        f"{found.n:,}",
        percent(found.value),
        interval((found.low, found.high)),
        beside_release(found.year, released),
    )


def _mark(points: int | None) -> str:
    return "?" if points is None else str(points)


SUBJECTS_SHOWN = 8


def _known_groups(people: Sequence[BaselineGroup]) -> list[BaselineGroup]:
    """Return all difficulty bands and the largest subjects, if the examinees' answers are known."""
    known = [group for group in people if group.examinees is not None]
    subjects = [group for group in known if group.kind == "subject"]
    return [group for group in known if group.kind == "difficulty"] + subjects[:SUBJECTS_SHOWN]


def _group_cells(group: BaselineGroup) -> tuple[str, ...]:
    return (
        group.scorer,
        group.name,
        f"{group.n:,}",
        percent(group.value),
        interval((group.low, group.high)),
        percent(group.examinees),
    )


def _rotation_cells(found: Rotations) -> tuple[str, ...]:
    worst = max(range(len(found.position_bias)), key=lambda place: found.position_bias[place])
    return (
        found.scorer,
        str(found.rotations),
        f"{found.n:,}",
        percent(found.accuracy),
        percent(found.consistency),
        interval((found.consistency_low, found.consistency_high)),
        f"place {worst + 1}: {100 * found.position_bias[worst]:+.1f}" if found.position_bias[worst] > 0 else "-",
    )


def _calibration_cells(result: EvalResult) -> Iterator[tuple[str, ...]]:
    if found := result.calibration:
        yield f"{found.n:,}", f"{100 * found.expected_calibration_error:.1f}", f"{found.brier:.3f}"
