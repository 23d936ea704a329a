"""Scorer `reference`: similarity of a free answer to the question's reference answer, in any language.

The metric is chrF (Popović 2015): the F score with beta 2 of character n-grams of length 1 to 6, without white space.
It needs no word segmentation, so it works the same in Japanese and English.
"""

import unicodedata
from collections import Counter

from jmedllm.evaluation.gold import zero
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers.base import GradedItemScore, ModelOutput, Scorer, text_for_the_reader

LONGEST, BETA = 6, 2.0


def applies(question: Question) -> bool:
    """Return whether this scorer can score `question`, which must have a reference answer."""
    return bool(question.reference and question.reference.strip())


def chrf(response: str, reference: str) -> float:
    """Compute the character n-gram F score of two texts, 0 to 1, after NFKC normalization and case folding."""
    first, second = ("".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in (response, reference))
    precisions, recalls = [], []
    for n in range(1, LONGEST + 1):
        ours, theirs = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (first, second))
        if ours and theirs:
            shared = (ours & theirs).total()
            precisions.append(shared / ours.total())
            recalls.append(shared / theirs.total())
    if not precisions or not sum(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)


def score_item(output: ModelOutput) -> GradedItemScore:
    """Score one model output."""
    text, missing = text_for_the_reader(output)
    if missing:
        return GradedItemScore(0.0, missing)
    return GradedItemScore(round(chrf(text, output.presented.question.reference or ""), 6), "compared")


SCORER = Scorer(
    summary="compares with a reference",
    needs="response",
    applies=applies,
    score_item=score_item,
    floor=zero,
    binary=False,
)
