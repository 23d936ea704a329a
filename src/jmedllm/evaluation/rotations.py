"""Measure how a model's answers depend on the position of the choices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.scorers.base import ItemScore
from jmedllm.evaluation.statistics import wilson


@dataclass(frozen=True, slots=True)
class Rotations:
    """Item scores of one scorer over all rotations of the choices. Shares are from 0 to 1.

    Attributes:
        n: number of questions presented in every rotation.
        rotations: number of rotations.
        accuracy: mean value over questions and rotations.
        consistency: share of questions with the same printed choices chosen in all rotations.
        consistency_low: lower end of its 95 % interval.
        position_bias: for each position the share of presentations in which it is picked minus the share in which it
            is right; all are below 0 if few questions are answered.
    """

    scorer: str
    n: int
    rotations: int
    accuracy: float
    consistency: float
    consistency_low: float
    consistency_high: float
    position_bias: tuple[float, ...]


def _consistent(chosen: Sequence[tuple[int, ...]]) -> bool:
    """Return whether the answer is the same in every rotation; no answer does not count."""
    return bool(chosen[0]) and len(set(chosen)) == 1


def compare_rotations(
    scorer: str, presented: Sequence[PresentedQuestion], item_scores: Mapping[str, ItemScore]
) -> Rotations | None:
    """Compare the rotations of each question that was presented more than once; None if there is none."""
    by_question: dict[str, list[PresentedQuestion]] = {}
    for each in presented:
        if each.key in item_scores:
            by_question.setdefault(each.question.id, []).append(each)
    several = [rotations for rotations in by_question.values() if len(rotations) > 1]
    if not several:
        return None
    every = [each for rotations in several for each in rotations]
    consistent = sum(_consistent([item_scores[each.key].chosen for each in rotations]) for rotations in several)
    low, high = wilson(consistent, len(several))
    places = max(len(each.order) for each in every)
    picked, right = [0] * places, [0] * places
    for each in every:
        for place, choice in enumerate(each.order):
            picked[place] += choice in item_scores[each.key].chosen
            right[place] += choice in each.question.gold
    return Rotations(
        scorer=scorer,
        n=len(several),
        rotations=max(map(len, several)),
        accuracy=sum(item_scores[each.key].value for each in every) / len(every),
        consistency=consistent / len(several),
        consistency_low=low,
        consistency_high=high,
        position_bias=tuple((p - r) / len(every) for p, r in zip(picked, right, strict=True)),
    )
