"""What turning the choices does to a model's answers: a model that knows answers alike wherever they stand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.scorers import ItemScore
from jmedllm.evaluation.statistics import wilson


@dataclass(frozen=True, slots=True)
class Rotations:
    """One track's answers over all turns of the choices. Shares from 0 to 1.

    Attributes:
        n: questions shown in every turn.
        accuracy: mean over questions and turns.
        alike: share of questions with the same printed choices chosen in all turns.
        alike_low: lower end of its 95 % interval.
        position_bias: for each place the share of showings in which it is picked minus that in which it is right;
            all below 0 where few questions are answered.
    """

    scorer: str
    n: int
    turns: int
    accuracy: float
    alike: float
    alike_low: float
    alike_high: float
    position_bias: tuple[float, ...]


def _alike(chosen: Sequence[tuple[int, ...]]) -> bool:
    """Whether every turn has the same answer; none is not an answer."""
    return bool(chosen[0]) and len(set(chosen)) == 1


def turned(
    scorer: str, showings: Sequence[PresentedQuestion], item_scores: Mapping[str, ItemScore]
) -> Rotations | None:
    """Compare the turns of each question that was shown more than once; None where there are none."""
    by_question: dict[str, list[PresentedQuestion]] = {}
    for presented in showings:
        if presented.key in item_scores:
            by_question.setdefault(presented.question.id, []).append(presented)
    several = [turns for turns in by_question.values() if len(turns) > 1]
    if not several:
        return None
    every = [presented for turns in several for presented in turns]
    alike = sum(_alike([item_scores[presented.key].chosen for presented in turns]) for turns in several)
    low, high = wilson(alike, len(several))
    places = max(len(presented.order) for presented in every)
    picked, right = [0] * places, [0] * places
    for presented in every:
        for place, choice in enumerate(presented.order):
            picked[place] += choice in item_scores[presented.key].chosen
            right[place] += choice in presented.question.gold
    return Rotations(
        scorer=scorer,
        n=len(several),
        turns=max(map(len, several)),
        accuracy=sum(item_scores[presented.key].correct for presented in every) / len(every),
        alike=alike / len(several),
        alike_low=low,
        alike_high=high,
        position_bias=tuple((p - r) / len(every) for p, r in zip(picked, right, strict=True)),
    )
