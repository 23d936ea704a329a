"""Scorers, one module each: they turn model outputs into item scores, and item scores into scores."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from jmedllm.errors import unknown
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import answer, correction, entities, kappa, legacy, likelihood, official, reference
from jmedllm.evaluation.scorers.base import ExamOutcome, GradedItemScore, ItemScore, ModelOutput, Scorer
from jmedllm.evaluation.statistics import Metric, Score, score
from jmedllm.plugins import plugins

__all__ = [
    "SCORERS",
    "ExamOutcome",
    "GradedItemScore",
    "ItemScore",
    "ModelOutput",
    "Scorer",
    "aggregate",
    "as_values",
    "from_values",
    "scorers_named",
]

SCORERS: dict[str, Scorer] = {
    "answer": answer.SCORER,
    "legacy": legacy.SCORER,
    "likelihood": likelihood.SCORER,
    "official": official.SCORER,
    "reference": reference.SCORER,
    "kappa": kappa.SCORER,
    "correction": correction.SCORER,
    "entities": entities.SCORER,
}
SCORERS |= plugins("scorers", SCORERS, Scorer)


def scorers_named(names: Iterable[str]) -> dict[str, Scorer]:
    """Return scorers by name, without duplicates.

    Raises:
        InputError: a name is unknown.
    """
    for name in names:
        if name not in SCORERS:
            raise unknown("scorer", name, SCORERS)
    return {name: SCORERS[name] for name in names}


def aggregate(name: str, scorer: Scorer, questions: Sequence[Question], item_scores: Sequence[Any]) -> list[Score]:
    """Aggregate item scores over the questions of one benchmark and language, in the order of `questions`."""
    if scorer.aggregate is not None:
        return scorer.aggregate(questions, item_scores)
    floor = None if scorer.floor is None else scorer.floor(questions)
    metric = Metric(
        name,
        "accuracy" if scorer.binary else "mean",
        floor=None if floor is None else floor.value,
        ceiling=1.0,
        binary=scorer.binary,
        constant_floor=None if floor is None else floor.best_constant,
    )
    return [score(metric, questions, [item_score.value for item_score in item_scores])]


def as_values(item_score: Any) -> dict[str, Any]:
    """Convert an item score to plain values for a file."""
    return {field.name: getattr(item_score, field.name) for field in fields(item_score)}


def from_values(scorer: str, values: Mapping[str, Any]) -> Any:
    """Restore the item score of a scorer from plain values; None if another version of the scorer wrote them."""
    kind = SCORERS[scorer].item_score
    required = {each.name for each in fields(kind) if each.default is MISSING and each.default_factory is MISSING}
    if not required <= values.keys() <= {each.name for each in fields(kind)}:
        return None
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return kind(**tuples)
