"""Calibration of the probabilities that a model assigns to the choices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.evaluation.question import Question
from jmedllm.models.backends.top_logprobs import UNLISTED

BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration over items with one right choice.

    Attributes:
        expected_calibration_error: ECE (Guo et al. 2017, arXiv 1706.04599): mean gap between the probability of the
            picked choice and the share of right picks, over ten equal bins.
        brier: mean over items of the squared distance between the probabilities and the right choice, 0 to 2; guessing
            evenly among k choices gives 1 - 1/k (Brier 1950).
        bins: for each bin with items, their number, mean probability and share right.
    """

    n: int
    expected_calibration_error: float
    brier: float
    bins: tuple[dict[str, Any], ...]


def probabilities(log_probs: Sequence[float]) -> list[float]:
    """Normalize the log-probabilities of the choices to probabilities that sum to 1."""
    top = max(log_probs)
    weights = [math.exp(value - top) for value in log_probs]
    return [weight / sum(weights) for weight in weights]


def calibrate(questions: Sequence[Question], log_probs: Sequence[tuple[float, ...] | None]) -> Calibration | None:
    """Calibrate over the items with all log-probabilities and one right choice; None if there are none."""
    rows: list[tuple[float, bool, float]] = []
    for question, values in zip(questions, log_probs, strict=True):
        if values is None or len(question.gold) != 1 or len(values) != len(question.choices):
            continue
        if UNLISTED in values:  # the backend did not list that label
            continue
        shares = probabilities(values)
        best = max(range(len(shares)), key=lambda index: shares[index])
        distance = sum((share - (index in question.gold)) ** 2 for index, share in enumerate(shares))
        rows.append((shares[best], best in question.gold, distance))
    if not rows:
        return None
    bins = []
    for number in range(BINS):
        inside = [row for row in rows if min(BINS - 1, int(row[0] * BINS)) == number]
        if inside:
            bins.append(
                {
                    "n": len(inside),
                    "probability": sum(row[0] for row in inside) / len(inside),
                    "right": sum(row[1] for row in inside) / len(inside),
                }
            )
    error = sum(each["n"] * abs(each["probability"] - each["right"]) for each in bins) / len(rows)
    return Calibration(len(rows), error, sum(row[2] for row in rows) / len(rows), tuple(bins))
