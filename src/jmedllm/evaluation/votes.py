"""Several responses to one question: the answer that most of them give, and pass@k."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import stdev

from jmedllm.evaluation.calibration import probabilities
from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.proportions import clustered_interval, wilson
from jmedllm.evaluation.scorers.base import ItemScore
from jmedllm.models.backends.top_logprobs import UNLISTED

Answer = tuple[tuple[int, ...], str | None]
"""The printed choices and the number that were read from a response."""

LogProbs = Mapping[str, Sequence[float] | None]
"""Log-probabilities of the printed choices, by the id of the sample; of several samples only the first has any."""


@dataclass(frozen=True, slots=True)
class PassAtK:
    """Chance that at least one of `k` responses is right (Chen et al. 2021), with its 95 % interval over items."""

    k: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class SampleStatistics:
    """Item scores of one scorer over several samples of the first presentation. Shares are from 0 to 1.

    Attributes:
        n: number of questions with several samples.
        samples: number of samples of each; the smallest of all questions.
        vote: mean value of the answers that most samples of a question give; None if the scorer reads no answers.
        vote_low: lower end of its 95 % interval, Wilson's over questions.
        no_vote: number of questions without any answer.
        tied: number of questions on which several answers have most votes.
        pass_at: for k from 1 to `samples`; empty for a scorer with partial credit.
        answers_differ: number of questions whose samples are read as different answers, or have different values.
        lowest: smallest score of all questions with one sample of each: the first ones, the second ones and so on.
        highest: the largest of these scores.
        deviation: their standard deviation.
        texts_differ: number of questions whose samples have different texts.
    """

    scorer: str
    n: int
    samples: int
    vote: float | None
    vote_low: float | None
    vote_high: float | None
    no_vote: int
    tied: int
    pass_at: tuple[PassAtK, ...]
    answers_differ: int
    lowest: float
    highest: float
    deviation: float
    texts_differ: int = 0


@dataclass(frozen=True, slots=True)
class Vote:
    """The answer with most votes: the first item score with it, and whether others had as many votes."""

    item_score: ItemScore
    tied: bool


def vote(item_scores: Sequence[ItemScore], log_probs: Iterable[Sequence[float] | None] = ()) -> Vote | None:
    """Return the answer that most item scores give; no answer has no vote. None if there is no answer at all.

    Of several with most votes, the one whose choices are most probable wins, summed over the prompts; without
    probabilities the first one that was given.

    Args:
        item_scores: those of several responses to one question.
        log_probs: log-probabilities of the printed choices, for each prompt of the question.
    """
    answers = [_answer(item_score) for item_score in item_scores]
    counts = Counter(answer for answer in answers if answer is not None)
    if not counts:
        return None
    most = max(counts.values())
    tied = [answer for answer in counts if counts[answer] == most]
    known = [probabilities(values) for values in log_probs if values and UNLISTED not in values]
    best = max(tied, key=lambda answer: _likelihood(answer, known))  # of equal ones the first
    return Vote(item_scores[answers.index(best)], len(tied) > 1)


def _answer(item_score: ItemScore) -> Answer | None:
    number: str | None = getattr(item_score, "number", None)
    return (item_score.chosen, number) if item_score.chosen or number is not None else None


def _likelihood(answer: Answer, known: Sequence[Sequence[float]]) -> float:
    chosen, _ = answer
    return sum(shares[choice] for shares in known for choice in chosen)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Estimate without bias the chance that at least one of `k` responses is right, from `correct` of `n` (Chen et al.
    2021, arXiv 2107.03374): 1 - C(n - correct, k) / C(n, k)."""
    return 1 - math.comb(n - correct, k) / math.comb(n, k)


def compare_samples(
    scorer: str,
    presented: Sequence[PresentedQuestion],
    item_scores: Mapping[str, ItemScore],
    log_probs: LogProbs,
    *,
    binary: bool,
) -> SampleStatistics | None:
    """Compare the samples of each question that was asked more than once in its first presentation; None if there is
    none."""
    by_question: dict[str, list[ItemScore]] = {}
    for each in presented:
        if each.key in item_scores and not each.rotation:
            by_question.setdefault(each.question.id, []).append(item_scores[each.key])
    several = {name: found for name, found in by_question.items() if len(found) > 1}
    if not several:
        return None
    n, size = len(several), min(map(len, several.values()))
    runs = [math.fsum(found[number].value for found in several.values()) / n for number in range(size)]
    votes = [vote(found, [log_probs.get(name)]) for name, found in several.items()]
    # Without any answer, all have the same value: 0, or 1 where the rule accepts even no answer.
    voted = [
        each.item_score.value if each else found[0].value for each, found in zip(votes, several.values(), strict=True)
    ]
    mean: float | None = math.fsum(voted) / n
    bounds: tuple[float | None, float | None] = (None, None)
    reads = any(votes) or all(hasattr(each, "answered") for found in several.values() for each in found)
    if not reads or not binary:
        mean = None
    else:
        bounds = wilson(sum(voted), n)
    return SampleStatistics(
        scorer=scorer,
        n=n,
        samples=size,
        vote=mean,
        vote_low=bounds[0],
        vote_high=bounds[1],
        no_vote=sum(each is None for each in votes),
        tied=sum(each is not None and each.tied for each in votes),
        pass_at=tuple(_pass_at(list(several.values()), k) for k in range(1, size + 1)) if binary else (),
        answers_differ=sum(len({(_answer(each), each.value) for each in found}) > 1 for found in several.values()),
        lowest=min(runs),
        highest=max(runs),
        deviation=stdev(runs),
    )


def texts_differ(texts: Mapping[str, Iterable[str | None]]) -> int:
    """Return the number of questions with different texts, from the texts of the samples of each question."""
    return sum(len(set(found)) > 1 for found in texts.values())


def _pass_at(several: Sequence[Sequence[ItemScore]], k: int) -> PassAtK:
    values = [pass_at_k(len(found), sum(each.value == 1 for each in found), k) for found in several]
    value = math.fsum(values) / len(values)
    return PassAtK(k, value, *clustered_interval(values, min(map(len, several))))
