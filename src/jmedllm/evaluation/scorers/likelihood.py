"""Scorer `likelihood`: picks the choices whose texts are most likely after the prompt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jmedllm.errors import InputError
from jmedllm.evaluation.gold import best_constant, has_answer, is_right, mean_chance, picks
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers.base import ModelOutput, Scorer
from jmedllm.evaluation.statistics import Metric, Score, score
from jmedllm.models.backends.top_logprobs import UNLISTED


@dataclass(frozen=True, slots=True)
class LikelihoodItemScore:
    """The choices that the log-probabilities pick, and whether they are right.

    Attributes:
        chosen: indices of the choices with the highest log-probability; empty for no answer.
        chosen_per_byte: indices picked by log-probability per UTF-8 byte of the choice's text; None where labels
            were scored.
        correct: whether `chosen` is a right answer.
        correct_per_byte: whether `chosen_per_byte` is a right answer.
    """

    chosen: tuple[int, ...]
    chosen_per_byte: tuple[int, ...] | None
    correct: bool
    correct_per_byte: bool | None

    @property
    def value(self) -> float:
        """1 for a right answer, else 0."""
        return float(self.correct)

    @property
    def answered(self) -> bool:
        """Whether choices were picked."""
        return bool(self.chosen)

    @property
    def how(self) -> str:
        """Empty, because nothing is read from text."""
        return ""


def applies(question: Question) -> bool:
    """Return whether this scorer can score `question`, which must have a right answer and choices that are not empty.

    An empty text has no probability.
    """
    return has_answer(question) and bool(question.choices) and all(question.choices)


def choose(values: Sequence[float], n: int) -> tuple[int, ...]:
    """Return the ascending indices of the `n` largest values; of equal values the first wins."""
    return tuple(sorted(sorted(range(len(values)), key=lambda index: values[index], reverse=True)[:n]))


def score_log_probs(question: Question, log_probs: Sequence[float], *, by_label: bool = False) -> LikelihoodItemScore:
    """Score the log-probabilities (natural logarithm) of the choices' texts or labels, in the printed order.

    As many choices are picked as the right answer has. If fewer labels have log-probabilities, nothing is picked and
    the item counts as wrong.

    Args:
        question: the question as printed.
        log_probs: log-probability of each choice; empty if the model returned none, `UNLISTED` for labels for which a
            server or vLLM returned none.
        by_label: whether they are those of labels.

    Raises:
        InputError: a log-probability is not a number, so the model is broken in this precision.
    """
    if any(math.isnan(value) for value in log_probs):
        raise InputError(f"question {question.id!r}: the model returns NaN; try float32 or check its weights")
    chosen = choose(log_probs, picks(question))
    if any(log_probs[index] <= UNLISTED for index in chosen):
        chosen = ()
    right = is_right(question, chosen)
    if by_label:
        return LikelihoodItemScore(chosen, None, right, None)
    if not log_probs:
        return LikelihoodItemScore((), (), False, False)
    per_byte = [value / len(choice.encode()) for value, choice in zip(log_probs, question.choices, strict=True)]
    chosen_per_byte = choose(per_byte, picks(question))
    return LikelihoodItemScore(chosen, chosen_per_byte, right, is_right(question, chosen_per_byte))


def aggregate(questions: Sequence[Question], item_scores: Sequence[LikelihoodItemScore]) -> list[Score]:
    """Aggregate both metrics over the items of one benchmark and language, in the order of `questions`.

    The floor is chance on these items, the ceiling is 1.
    """
    floor, constant = mean_chance(questions), best_constant(questions)
    metrics = {"accuracy": [(item_score.chosen, item_score.correct) for item_score in item_scores]}
    per_byte = [
        (item_score.chosen_per_byte, item_score.correct_per_byte)
        for item_score in item_scores
        if item_score.chosen_per_byte is not None and item_score.correct_per_byte is not None
    ]
    if len(per_byte) == len(item_scores):
        metrics["accuracy_per_byte"] = per_byte
    return [
        score(
            Metric("likelihood", metric, floor, 1.0, constant_floor=constant),
            questions,
            [right for _, right in found],
            no_answer=sum(not chosen for chosen, _ in found),
        )
        for metric, found in metrics.items()
    ]


def score_item(output: ModelOutput) -> LikelihoodItemScore:
    """Score one model output."""
    by_label = output.answer_as == "letter"
    return score_log_probs(output.presented.question, output.log_probs or (), by_label=by_label)


SCORER = Scorer(
    summary="compares the choices' probabilities",
    needs="log_probs",
    applies=applies,
    score_item=score_item,
    item_score=LikelihoodItemScore,
    aggregate=aggregate,
)
