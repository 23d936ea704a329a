"""Scorer `kappa`: Cohen's kappa of the chosen letters with the right ones (Cohen 1960), for classification.

It applies to benchmarks that declare an `agreement`, with the weights that were published for them. No answer is a
category of its own behind the last letter, as in JMED-LLM's evaluation. A negative value is less than chance.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from jmedllm.evaluation.benchmarks import BENCHMARKS
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import answer
from jmedllm.evaluation.scorers.answer import AnswerItemScore
from jmedllm.evaluation.statistics import Score, bootstrap_statistic, samples_of

Labels = NDArray[np.int64]


def applies(question: Question) -> bool:
    """Return whether this scorer can score `question`, which must be of a benchmark that declares an agreement."""
    benchmark = BENCHMARKS.get(question.benchmark)
    return benchmark is not None and benchmark.agreement is not None and len(question.gold) == 1


def kappa(pairs: Labels, *, weighted: bool) -> NDArray[np.float64]:
    """Compute kappa of pairs of labels; 0 where chance alone explains everything, such as a single label.

    Args:
        pairs: (..., items, 2) labels from 0; those that occur nowhere do not count as categories.
        weighted: weigh a disagreement by the number of categories between the labels (Cohen 1968), instead of alike.
    """
    known = np.unique(pairs)
    categories, items = len(known), pairs.shape[-2]
    cost = np.abs(np.subtract.outer(np.arange(categories), np.arange(categories))).astype(float)
    cost = cost if weighted else (cost > 0).astype(float)
    cells = np.searchsorted(known, pairs) @ (categories, 1)
    tables = cells.reshape(-1, items) + categories**2 * np.arange(cells.size // items)[:, None]
    counts = np.bincount(tables.ravel(), minlength=categories**2 * len(tables))
    shares = counts.reshape(*pairs.shape[:-2], categories, categories) / items
    observed = (shares * cost).sum(axis=(-2, -1))
    expected = np.einsum("...i,ij,...j->...", shares.sum(axis=-1), cost, shares.sum(axis=-2))
    return np.asarray(1 - np.where(expected > 0, observed, 1) / np.where(expected > 0, expected, 1), dtype=np.float64)


def aggregate(questions: Sequence[Question], item_scores: Sequence[AnswerItemScore]) -> list[Score]:
    """Compute kappa with a bootstrap interval over the items."""
    agreement = BENCHMARKS[questions[0].benchmark].agreement or "kappa"
    none = max(len(question.choices) for question in questions)
    chosen = [item_score.chosen[0] if len(item_score.chosen) == 1 else none for item_score in item_scores]
    pairs = np.array([[min(question.gold), label] for question, label in zip(questions, chosen, strict=True)])
    gold = pairs[0, 0]
    value, low, high = bootstrap_statistic(
        pairs,
        partial(kappa, weighted=agreement == "linear_weighted_kappa"),
        samples=samples_of(questions),
        extremes=np.array([[gold, gold], [gold, none]]),
    )
    return [
        Score(
            questions[0].benchmark, questions[0].language, "kappa", agreement, len(questions),
            sum(item_score.correct for item_score in item_scores), value, low, high, 0.0, 1.0,
            sum(not item_score.answered for item_score in item_scores), binary=False,
        )
    ]  # fmt: skip


SCORER = replace(
    answer.SCORER,
    summary="agreement beyond chance",
    applies=applies,
    aggregate=aggregate,
    strict=None,
    same_answers_as="answer",
)
