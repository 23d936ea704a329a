"""Rows of the table of scores: measured ones, and published ones of the same benchmarks and metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

from jmedllm.evaluation.lengths import is_marked
from jmedllm.evaluation.question import Language
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.statistics import Score
from jmedllm.report.numbers import count_of, percent
from jmedllm.report.published import METRIC, SCORER, PublishedScore, published_scores


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. Values are shares from 0 to 1; None if a published source does not report them.

    Attributes:
        selected: number of selected items, if a limit left out some of them.
        samples: number of responses to each item.
        truncated: number of responses that were cut off; None if none were read.
        responses: number of responses that were read.
    """

    model: str
    benchmark: str
    language: Language
    scorer: str
    metric: str
    n: int | None
    value: float
    interval: tuple[float, float] | None
    floor: float | None
    ceiling: float | None
    published: bool = False
    contaminated: bool = False
    note: str = ""
    no_answer: int | None = None
    selected: int | None = None
    constant_floor: float | None = None
    binary: bool = True
    samples: int = 1
    truncated: int | None = None
    responses: int = 0

    @property
    def items(self) -> str:
        """Number of items, such as "20" or "20 of 4,183", with the number of samples if there are several."""
        return count_of(self.n, self.selected) + (f" × {self.samples}" if self.samples > 1 else "")

    @property
    def best_constant(self) -> float | None:
        """Score of the best constant answer, if it is above the floor."""
        constant = self.constant_floor
        return constant if constant is not None and constant > (self.floor or 0.0) else None

    @property
    def floors(self) -> str:
        """Floor, such as "25.0", or "25.0 / 32.2" with the best constant answer."""
        best = self.best_constant
        return percent(self.floor) if best is None else f"{percent(self.floor)} / {percent(best)}"

    @property
    def bounds(self) -> tuple[float, ...]:
        """Floor, best constant answer and ceiling, as far as there are any."""
        return tuple(each for each in (self.floor, self.best_constant, self.ceiling) if each is not None)

    @property
    def measure(self) -> str:
        """Scorer and metric; only rows with the same measure are comparable."""
        return f"{self.scorer} {self.metric}"

    @property
    def at_floor(self) -> bool:
        """Whether the interval reaches down to the floor, or to the best constant answer."""
        floors = [floor for floor in (self.floor, self.best_constant) if floor is not None]
        return self.interval is not None and floors != [] and self.interval[0] <= max(floors)

    @property
    def mark(self) -> str:
        """Marks of the score that notes explain; may be empty."""
        return ("*" if self.contaminated else "~" if self.at_floor else "") + ("†" if self.is_truncated else "")

    @property
    def is_truncated(self) -> bool:
        """Whether so many responses were cut off that the score is too low."""
        return is_marked(self.truncated, self.responses)


def build_rows(results: Sequence[EvalResult]) -> list[Row]:
    """Build rows for the results, and for published scores of the same benchmarks by the same scorer and metric.

    Comparable rows are adjacent: results in the given order, then published scores, best first.
    """
    ours = [
        score_row(result.model, score, result.selected if result.asked < result.selected else None)
        for result in results
        for score in result.scores
    ]
    tasks = list(dict.fromkeys((row.benchmark, row.language) for row in ours))
    beside = dict.fromkeys((row.benchmark, row.language) for row in ours if row.measure == f"{SCORER} {METRIC}")
    published = [_published_row(score) for task in beside for score in published_scores(*task)]
    rows = [*ours, *published]
    measures = list(dict.fromkeys((row.scorer, row.metric) for row in rows))
    return sorted(
        rows,
        key=lambda row: (
            tasks.index((row.benchmark, row.language)),
            measures.index((row.scorer, row.metric)),
        ),
    )


def score_row(model: str, score: Score, selected: int | None = None) -> Row:
    """Build the row of a score that was measured here; `selected` as in `Row`."""
    return Row(
        model=model,
        benchmark=score.benchmark,
        language=score.language,
        scorer=score.scorer,
        metric=score.metric,
        n=score.n,
        value=score.value,
        interval=(score.low, score.high),
        floor=score.floor,
        ceiling=score.ceiling,
        no_answer=score.no_answer,
        selected=selected,
        constant_floor=score.constant_floor,
        binary=score.binary,
        samples=score.samples,
        truncated=score.truncated,
        responses=score.responses,
    )


def _published_row(score: PublishedScore) -> Row:
    return Row(
        model=score.model,
        benchmark=score.benchmark,
        language=score.language,
        scorer=SCORER,
        metric=METRIC,
        n=None,
        value=score.value,
        interval=None,
        floor=score.floor,
        ceiling=score.ceiling,
        published=True,
        contaminated=score.contaminated,
        note=score.note,
    )
