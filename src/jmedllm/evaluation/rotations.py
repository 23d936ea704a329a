"""Measure how a model's answers depend on the position of the choices."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.proportions import wilson
from jmedllm.evaluation.scorers.base import ItemScore
from jmedllm.evaluation.votes import LogProbs, vote


@dataclass(frozen=True, slots=True)
class Rotations:
    """Item scores of one scorer over all rotations of the choices. Shares are from 0 to 1.

    Attributes:
        n: number of questions presented in every rotation.
        rotations: number of rotations.
        accuracy: mean value over questions, rotations and samples.
        consistency: share of questions with the same printed choices chosen in all rotations; of several samples in a
            rotation, the choices of their vote.
        consistency_low: lower end of its 95 % interval.
        position_bias: for each position the share of presentations in which it is picked minus the share in which it
            is right; all are below 0 if few questions are answered.
        vote: mean value of the printed choices that are chosen most often over all rotations; None for a scorer with
            partial credit.
        vote_low: lower end of its 95 % interval, Wilson's over questions.
    """

    scorer: str
    n: int
    rotations: int
    accuracy: float
    consistency: float
    consistency_low: float
    consistency_high: float
    position_bias: tuple[float, ...]
    vote: float | None = None
    vote_low: float | None = None
    vote_high: float | None = None


def _consistent(presentations: Sequence[PresentedQuestion], item_scores: Mapping[str, ItemScore]) -> bool:
    """Return whether the answer is the same in every rotation; no answer does not count."""
    rotations: dict[int, list[ItemScore]] = {}
    for each in presentations:
        rotations.setdefault(each.rotation, []).append(item_scores[each.key])
    votes = [vote(found) for found in rotations.values()]
    chosen = {each.item_score.chosen if each else () for each in votes}
    return len(chosen) == 1 and chosen != {()}


def compare_rotations(
    scorer: str,
    presented: Sequence[PresentedQuestion],
    item_scores: Mapping[str, ItemScore],
    log_probs: LogProbs,
    *,
    binary: bool = True,
) -> Rotations | None:
    """Compare the rotations of each question that was presented in more than one; None if there is none.

    Args:
        log_probs: log-probabilities of the printed choices, by sample; without them, votes with ties take the first.
    """
    by_question: dict[str, list[PresentedQuestion]] = {}
    for each in presented:
        if each.key in item_scores:
            by_question.setdefault(each.question.id, []).append(each)
    several = [found for found in by_question.values() if len({each.rotation for each in found}) > 1]
    if not several:
        return None
    every = [each for rotations in several for each in rotations]
    consistent = sum(_consistent(found, item_scores) for found in several)
    low, high = wilson(consistent, len(several))
    voted = _votes(several, item_scores, log_probs) if binary else None
    places = max(len(each.order) for each in every)
    picked, right = [0] * places, [0] * places
    for each in every:
        for place, choice in enumerate(each.order):
            picked[place] += choice in item_scores[each.key].chosen
            right[place] += choice in each.question.gold
    return Rotations(
        scorer=scorer,
        n=len(several),
        rotations=max(each.rotation for each in every) + 1,
        accuracy=sum(item_scores[each.key].value for each in every) / len(every),
        consistency=consistent / len(several),
        consistency_low=low,
        consistency_high=high,
        position_bias=tuple((p - r) / len(every) for p, r in zip(picked, right, strict=True)),
        **(_named(voted) if voted else {}),
    )


def _votes(
    several: Sequence[Sequence[PresentedQuestion]],
    item_scores: Mapping[str, ItemScore],
    log_probs: LogProbs,
) -> list[float]:
    """Return the value of the vote of each question over all its presentations; without any answer that of none."""
    votes = [
        vote(
            [item_scores[each.key] for each in found],
            [log_probs.get(each.key) for each in found],
        )
        for found in several
    ]
    return [
        each.item_score.value if each else item_scores[found[0].key].value
        for each, found in zip(votes, several, strict=True)
    ]


def _named(values: Sequence[float]) -> dict[str, float]:
    low, high = wilson(sum(values), len(values))
    return {"vote": math.fsum(values) / len(values), "vote_low": low, "vote_high": high}
