"""Scorer `answer`: the choices, or the number, that a free response states as its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jmedllm.evaluation.gold import best_constant, has_answer, is_right, mean_chance
from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question, canonical_number
from jmedllm.evaluation.reading import ExtractedAnswer, read_answer, same_answer
from jmedllm.evaluation.scorers.base import ModelOutput, Scorer
from jmedllm.evaluation.statistics import Metric, Score, score
from jmedllm.models.thoughts import Thought


@dataclass(frozen=True, slots=True)
class AnswerItemScore:
    """The answer read from one response, and whether it is right.

    Attributes:
        chosen: indices of the printed choices; empty for no answer and for numbers.
        number: the number read, in canonical form; None for choices and for no answer.
        how: how the answer was read, or why there is none.
        correct: whether the answer is right.
    """

    chosen: tuple[int, ...]
    number: str | None
    how: str
    correct: bool

    @property
    def value(self) -> float:
        """1 for a right answer, else 0."""
        return float(self.correct)

    @property
    def answered(self) -> bool:
        """Whether an answer was found."""
        return bool(self.chosen) or self.number is not None


def applies(question: Question) -> bool:
    """Return whether this scorer can score `question`, which must have a right answer."""
    return has_answer(question)


def score_response(
    presented: PresentedQuestion,
    response: str,
    answer_as: AnswerForm = "text",
    *,
    truncated: bool = False,
    thought_open: bool | None = False,
    thoughts: Sequence[Thought] = (),
    numbered: bool | None = None,
) -> AnswerItemScore:
    """Score the full text that a model wrote.

    Args:
        answer_as: whether the prompt asked for text or letter; it decides if a choice's text is another choice's
            letter.

    The other arguments are those of `read_answer`.
    """
    extracted = read_answer(
        presented.permuted,
        response,
        truncated=truncated,
        answer_as=answer_as,
        thought_open=thought_open,
        thoughts=thoughts,
        numbered=numbered,
    )
    return AnswerItemScore(
        presented.printed(sorted(extracted.chosen)),
        extracted.number,
        extracted.how,
        _is_right(presented.permuted, extracted),
    )


def score_letters(question: Question, response: str) -> AnswerItemScore:
    """Score by the plain comma split of the published table of candidates, which accepts only answers such as
    "a,c"."""
    if question.number is not None:
        try:
            number = canonical_number(response)
        except ValueError:
            return AnswerItemScore((), None, "not a number", False)
        return AnswerItemScore((), number, "number", number == question.number)
    letters = response.split(",")
    chosen = {ord(letter) - ord("a") for letter in letters if len(letter) == 1}
    if len(chosen) != len(set(letters)) or not chosen <= set(range(len(question.choices))):
        return AnswerItemScore((), None, "not letters", False)
    return AnswerItemScore(tuple(sorted(chosen)), None, "letters", is_right(question, chosen))


def _is_right(question: Question, extracted: ExtractedAnswer) -> bool:
    if extracted.chosen and "every_answer_right" in question.flags:
        return True
    return any(same_answer(question, extracted, gold) for gold in (question.gold, *question.also_right))


def aggregate(questions: Sequence[Question], item_scores: Sequence[AnswerItemScore]) -> list[Score]:
    """Compute accuracy, where no answer counts as wrong. The floor is chance on these items, the ceiling 1."""
    return [accuracy(questions, item_scores, "answer")]


def accuracy(questions: Sequence[Question], item_scores: Sequence[AnswerItemScore], scorer: str) -> Score:
    """Compute accuracy as the score of the scorer with this name."""
    return score(
        Metric(scorer, "accuracy", mean_chance(questions), 1.0, constant_floor=best_constant(questions)),
        questions,
        [item_score.correct for item_score in item_scores],
        no_answer=sum(not item_score.answered for item_score in item_scores),
    )


def score_item(output: ModelOutput) -> AnswerItemScore:
    """Score one model output."""
    if output.failure is not None:
        return AnswerItemScore((), None, output.failure, False)
    return score_response(
        output.presented,
        output.text or "",
        output.answer_as,
        truncated=output.truncated,
        thought_open=output.thought_open,
        thoughts=output.thoughts,
        numbered=output.numbered,
    )


def score_item_strictly(output: ModelOutput) -> AnswerItemScore:
    """Score one model output by the plain comma split."""
    if output.failure is not None:
        return AnswerItemScore((), None, output.failure, False)
    return score_letters(output.presented.question, output.text or "")


_STRICT = Scorer(
    summary="splits at commas",
    needs="response",
    applies=applies,
    score_item=score_item_strictly,
    item_score=AnswerItemScore,
    aggregate=aggregate,
)

SCORER = replace(_STRICT, summary="reads the stated answer", score_item=score_item, strict=_STRICT)
