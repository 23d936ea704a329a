"""The result of one evaluation, and reading it from its summary file."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from jmedllm.evaluation.calibration import Calibration
from jmedllm.evaluation.exam_years import ExamYear
from jmedllm.evaluation.human_baseline import BaselineGroup
from jmedllm.evaluation.lengths import ResponseLengths
from jmedllm.evaluation.pictures import PictureGroup
from jmedllm.evaluation.rotations import Rotations
from jmedllm.evaluation.scorers.base import ExamOutcome
from jmedllm.evaluation.statistics import Score
from jmedllm.evaluation.votes import PassAtK, SampleStatistics
from jmedllm.files import read_json


@dataclass(frozen=True, slots=True)
class EvalResult:
    """The result of one model on one benchmark in one language.

    Attributes:
        settings: everything that shaped the answers: model, precision, prompts; and the scorers.
        selected: number of items in the selection.
        asked: number of evaluated items; fewer than `selected` with a limit.
        scores: one for each metric of each scorer, on the first presentation of each question.
        exam_outcomes: pass or fail of each year's exam, from scorers that compute it.
        calibration: calibration of the model's probabilities, if log-probabilities were asked for.
        rotations: for each scorer the effect of rotating the choices, if they were rotated.
        trace: hashes of the questions with their gold and of the samples, the version that asked the model
            ("jmedllm") and the version that scored the samples ("scored_with").
        human_baseline: the first scorer compared with the human examinees, by difficulty and subject.
        readings: for each scorer that reads responses, the number of responses read in each way, most frequent first.
        left_out: number of items that the selection left out, by reason.
        notes: remarks for reports on how the questions were read.
        failures: ids of items without any response, by reason; they count as no answer. Reasons such as "judge: too
            long" are of items that a judge could not grade.
        source: origin of the questions, see `EvalTask.source`.
        exam_years: the first scorer by year of the licence exam, if the items are of one.
        pictures: for each scorer the items with pictures, and the others, if there are items with pictures.
        samples: for each scorer the votes and pass@k of several samples, if there are several.
        lengths: lengths of the responses; None without any.
    """

    settings: dict[str, Any]
    selected: int
    asked: int
    scores: tuple[Score, ...]
    exam_outcomes: tuple[ExamOutcome, ...]
    calibration: Calibration | None
    rotations: tuple[Rotations, ...]
    trace: dict[str, str]
    human_baseline: tuple[BaselineGroup, ...] = ()
    readings: dict[str, dict[str, int]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failures: dict[str, tuple[str, ...]] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)
    pictures: tuple[PictureGroup, ...] = ()
    exam_years: tuple[ExamYear, ...] = ()
    samples: tuple[SampleStatistics, ...] = ()
    lengths: ResponseLengths | None = None

    @property
    def model(self) -> str:
        """Return the name of the model."""
        return str(self.settings["model"])


_REQUIRED = {each.name for each in fields(EvalResult)} - {"exam_years", "samples", "lengths"}
"""Fields of every summary; the others are missing in those of earlier versions."""


def read_result(summary_file: Path) -> EvalResult | None:
    """Read the result in a summary file; None for other JSON files and unfinished evaluations."""
    summary = read_json(summary_file)
    if not isinstance(summary, dict) or not _REQUIRED <= summary.keys() <= {each.name for each in fields(EvalResult)}:
        return None
    calibration, lengths = summary["calibration"], summary.get("lengths")
    parts = {
        "scores": tuple(Score(**row) for row in summary["scores"]),
        "exam_outcomes": tuple(ExamOutcome(**_frozen(row)) for row in summary["exam_outcomes"]),
        "calibration": calibration and Calibration(**_frozen(calibration)),
        "rotations": tuple(Rotations(**_frozen(row)) for row in summary["rotations"]),
        "human_baseline": tuple(BaselineGroup(**row) for row in summary["human_baseline"]),
        "exam_years": tuple(ExamYear(**row) for row in summary.get("exam_years", ())),
        "pictures": tuple(PictureGroup(**row) for row in summary["pictures"]),
        "samples": tuple(map(_sample_statistics, summary.get("samples", ()))),
        "lengths": lengths and ResponseLengths(**lengths),
        "notes": tuple(summary["notes"]),
        "failures": _frozen(summary["failures"]),
    }
    return EvalResult(**{**summary, **parts})


def _sample_statistics(row: dict[str, Any]) -> SampleStatistics:
    return SampleStatistics(**{**row, "pass_at": tuple(PassAtK(**each) for each in row["pass_at"])})


def _frozen(row: dict[str, Any]) -> dict[str, Any]:
    """Convert lists from JSON back to the tuples of a dataclass."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
