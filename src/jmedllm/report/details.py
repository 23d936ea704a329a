"""Small tables of results besides scores: readings, the ministry's pass rule, examinees, rotations, calibration."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from jmedllm.evaluation.decoding import described
from jmedllm.evaluation.exam_years import RELEASED, ExamYear, beside_release
from jmedllm.evaluation.human_baseline import BaselineGroup
from jmedllm.evaluation.lengths import MOST_TRUNCATED, is_marked
from jmedllm.evaluation.reading import NO_ANSWER
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.rotations import Rotations
from jmedllm.evaluation.scorers.base import ExamOutcome
from jmedllm.evaluation.scorers.official import MOST_PROHIBITED
from jmedllm.evaluation.votes import SampleStatistics
from jmedllm.report.layout import Column
from jmedllm.report.numbers import count, interval, percent


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
    yield from response_details(results)
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
            tuple(map(Column, ("scorer", *_ROTATION_HEADINGS))),
            rows,
            "Accuracy: mean over all rotations. Vote: share right of the choices picked most often over all "
            "rotations, in the printed order. Same answer: questions with the same answer in every rotation, in %. "
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
_ROTATION_HEADINGS = ("rotations", "n", "accuracy", "vote", "same answer", "95 % interval", "position bias")


def _rows(
    results: Sequence[EvalResult], cells: Callable[[EvalResult], Iterable[tuple[str, ...]]]
) -> tuple[DetailRow, ...]:
    return tuple(DetailRow(result.model, _task(result), row) for result in results for row in cells(result))


def _task(result: EvalResult) -> str:
    return f"{result.settings['benchmark']} {result.settings['language']}"


def response_details(results: Sequence[EvalResult]) -> Iterator[Detail]:
    """Yield the tables of responses and of several samples, as far as they have rows."""
    if found := response_detail(results):
        yield found
    if rows := _rows(results, lambda result: map(_sample_cells, result.samples)):
        yield Detail("Several samples", SAMPLE_COLUMNS, rows, SAMPLE_NOTE)
    if rows := _rows(results, lambda result: map(_difference_cells, result.samples)):
        yield Detail("Differences between samples", DIFFERENCE_COLUMNS, rows, DIFFERENCE_NOTE)


def response_detail(results: Sequence[EvalResult]) -> Detail | None:
    """Build the table of decoding, and of lengths and truncation of the responses; None if there are none."""
    rows = _rows(results, _response_cells)
    headings = ("n", "truncated", "tokens", "tokens p99", "thought", "thought p99", "forced")
    # Columns that no row has, such as those of thoughts, are left out.
    kept = [index for index in range(len(headings)) if index < 2 or any(row.cells[index + 1] != "-" for row in rows)]
    if not rows:
        return None
    return Detail(
        "Responses",
        (Column("decoding", is_text=True), *(Column(headings[index]) for index in kept)),
        tuple(
            DetailRow(row.model, row.task, (row.cells[0], *(row.cells[index + 1] for index in kept))) for row in rows
        ),
        "n: responses. Truncated: cut off before they ended, in %; † above "
        f"{100 * MOST_TRUNCATED:.0f} %. Tokens: median of the generated tokens, and their 99th percentile."
        + (" Thought: the same of thoughts alone." if 4 in kept else "")
        + (" Forced: thoughts that were closed at the thinking budget." if 6 in kept else ""),
    )


def _response_cells(result: EvalResult) -> Iterator[tuple[str, ...]]:
    found, settings = result.lengths, result.settings
    if found is None:
        return
    yield (
        f"{described(settings['decoding'])}; at most {settings['max_new_tokens']:,} tokens",
        f"{found.n:,}",
        percent(found.truncated / found.n) + ("†" if is_marked(found.truncated, found.n) else ""),
        *map(count, (found.tokens_median, found.tokens_p99, found.thought_median, found.thought_p99)),
        count(found.forced or None),
    )


SAMPLE_COLUMNS = (
    Column("scorer", is_text=True),
    *map(Column, ("samples", "n", "vote", "95 % interval", "tied", "no vote")),
    Column("pass@k", is_text=True),
)

SAMPLE_NOTE = (
    "All values in %. Vote: share right of the answers that most samples of an item give; no answer has no vote, and "
    "of answers with equally many votes the more probable one wins, or the first. Tied, no vote: number of items with "
    "such answers, and without any answer. pass@k: chance that at least one of k samples is right (Chen et al. 2021)."
)


DIFFERENCE_COLUMNS = (
    Column("scorer", is_text=True),
    *map(Column, ("samples", "n", "texts differ", "answers differ", "lowest", "highest", "sd")),
)

DIFFERENCE_NOTE = (
    "All values in %. Texts, answers differ: share of the items whose samples do. Lowest, highest, sd: of the scores "
    "with the first sample of each item, with the second and so on. With greedy decoding (--repeat) this is the "
    "variance of the server itself."
)


def _difference_cells(found: SampleStatistics) -> tuple[str, ...]:
    return (
        found.scorer,
        str(found.samples),
        f"{found.n:,}",
        percent(found.texts_differ / found.n),
        percent(found.answers_differ / found.n),
        percent(found.lowest),
        percent(found.highest),
        percent(found.deviation),
    )


def _sample_cells(found: SampleStatistics) -> tuple[str, ...]:
    ks = [each for each in found.pass_at if each.k == found.samples or (each.k & (each.k - 1)) == 0]
    bounds = None if found.vote_low is None or found.vote_high is None else (found.vote_low, found.vote_high)
    return (
        found.scorer,
        str(found.samples),
        f"{found.n:,}",
        percent(found.vote),
        interval(bounds),
        "-" if found.vote is None else f"{found.tied:,}",
        "-" if found.vote is None else f"{found.no_vote:,}",
        ", ".join(f"pass@{each.k} {percent(each.value)}" for each in ks) or "-",
    )


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
        "right answers to items that show a picture, which may be missing from the data."
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
        percent(found.vote),
        percent(found.consistency),
        interval((found.consistency_low, found.consistency_high)),
        f"place {worst + 1}: {100 * found.position_bias[worst]:+.1f}" if found.position_bias[worst] > 0 else "-",
    )


def _calibration_cells(result: EvalResult) -> Iterator[tuple[str, ...]]:
    if found := result.calibration:
        yield f"{found.n:,}", f"{100 * found.expected_calibration_error:.1f}", f"{found.brier:.3f}"
