"""Track `likelihood`: the model picks the choices whose texts it finds most likely after the prompt."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jmedllm.errors import InputError
from jmedllm.exam.question import Question
from jmedllm.exam.statistics import Score, score


@dataclass(frozen=True, slots=True)
class LikelihoodVerdict:
    """What the log-probabilities of one item's choices were worth.

    Attributes:
        chosen: indices of the choices picked by summed log-probability.
        chosen_per_byte: indices picked by log-probability per UTF-8 byte of the choice's text.
        correct: `chosen` is a right answer.
        correct_per_byte: `chosen_per_byte` is a right answer.
    """

    chosen: tuple[int, ...]
    chosen_per_byte: tuple[int, ...]
    correct: bool
    correct_per_byte: bool


def applies(question: Question) -> bool:
    """Whether this track can judge `question`: it needs choices, none of them empty, and a right answer.

    An empty text has no probability that could be compared.
    """
    return _has_answer(question) and bool(question.choices) and all(question.choices)


def choose(values: Sequence[float], n: int) -> tuple[int, ...]:
    """Indices, ascending, of the `n` largest values; the first of equal ones wins."""
    return tuple(sorted(sorted(range(len(values)), key=lambda index: values[index], reverse=True)[:n]))


def judge(question: Question, log_probs: Sequence[float]) -> LikelihoodVerdict:
    """Judge the summed log-probabilities (natural log) of the choices' texts, in the order of the choices.

    As many choices are picked as the right answer has.

    Raises:
        InputError: a log-probability is not a number, so the model is broken in this precision.
    """
    if any(math.isnan(value) for value in log_probs):
        raise InputError(f"question {question.id!r}: the model gives NaN; try float32 or check its weights")
    per_byte = [value / len(choice.encode()) for value, choice in zip(log_probs, question.choices, strict=True)]
    n = _picks(question)
    chosen, chosen_per_byte = choose(log_probs, n), choose(per_byte, n)
    return LikelihoodVerdict(
        chosen, chosen_per_byte, _is_right(question, chosen), _is_right(question, chosen_per_byte)
    )


def chance(question: Question) -> float:
    """Probability that choices picked at random are right: 1 / C(choices, picks) with one right answer."""
    if "every_answer_right" in question.flags:
        return 1.0
    right = {answer for answer in (question.gold, *question.also_right) if len(answer) == _picks(question)}
    return len(right) / math.comb(len(question.choices), _picks(question))


def scores(questions: Sequence[Question], verdicts: Sequence[LikelihoodVerdict]) -> list[Score]:
    """Both metrics over items of one benchmark and language, `verdicts` in the order of `questions`.

    The floor is chance on these very items; the ceiling is 1.
    """
    floor = math.fsum(chance(question) for question in questions) / len(questions)
    metrics = {
        "accuracy": [verdict.correct for verdict in verdicts],
        "accuracy_per_byte": [verdict.correct_per_byte for verdict in verdicts],
    }
    return [
        score(questions, track="likelihood", metric=metric, right=right, floor=floor, ceiling=1.0)
        for metric, right in metrics.items()
    ]


def _has_answer(question: Question) -> bool:
    return bool(question.gold) or "every_answer_right" in question.flags


def _picks(question: Question) -> int:
    return len(question.gold) or question.select


def _is_right(question: Question, chosen: Sequence[int]) -> bool:
    return "every_answer_right" in question.flags or set(chosen) in (question.gold, *question.also_right)
