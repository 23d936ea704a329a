"""docs/evaluation/reference.md names every field that results have, and no other."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from jmedllm.evaluation.calibration import Calibration
from jmedllm.evaluation.exam_years import ExamYear
from jmedllm.evaluation.human_baseline import BaselineGroup
from jmedllm.evaluation.records import JudgeReply, Sample, ScoredItem
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.rotations import Rotations
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.scorers.base import ExamOutcome
from jmedllm.evaluation.statistics import Paired, Score
from jmedllm.report.compare import Comparison

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation" / "reference.md").read_text(encoding="utf-8")
ITEM_SCORES = dict.fromkeys(scorer.item_score for scorer in SCORERS.values())  # in one order for all test processes


@pytest.mark.parametrize(
    "described",
    [
        Sample,
        ScoredItem,
        JudgeReply,
        EvalResult,
        Score,
        ExamOutcome,
        Calibration,
        Rotations,
        BaselineGroup,
        ExamYear,
        Comparison,
        Paired,
        *ITEM_SCORES,
    ],
    ids=lambda described: described.__name__,
)
def test_every_field_is_described(described: type) -> None:
    documented = set(re.findall(r"`(\w+)`", PAGE))
    assert {field.name for field in fields(described)} <= documented


def test_every_scorer_and_metric_is_described() -> None:
    assert set(SCORERS) <= set(re.findall(r"`(\w+)`", PAGE))
