"""Track `answer`: the choices, or the number, that a free response states as its answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from jmedllm.evaluation.gold import has_answer, is_right, mean_chance
from jmedllm.evaluation.order import PresentedQuestion
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question, canonical_number
from jmedllm.evaluation.reading import ExtractedAnswer, read_answer, same_answer
from jmedllm.evaluation.statistics import Score, score
from jmedllm.models.thoughts import Thought


@dataclass(frozen=True, slots=True)
class AnswerItemScore:
    """What one response was taken to mean, and what it was worth.

    Attributes:
        chosen: indices of the printed choices; empty for no answer and for numbers.
        number: the number read, in canonical form; None for choices and for no answer.
        how: how the answer was read, or why there is none.
    """

    chosen: tuple[int, ...]
    number: str | None
    how: str
    correct: bool

    @property
    def answered(self) -> bool:
        """Whether there is an answer at all."""
        return bool(self.chosen) or self.number is not None


def applies(question: Question) -> bool:
    """Whether this track can judge `question`: some answer must be right."""
    return has_answer(question)


def judge(
    presented: PresentedQuestion,
    response: str,
    answer_as: AnswerForm = "text",
    *,
    truncated: bool = False,
    thought_open: bool | None = False,
    thoughts: Sequence[Thought] = (),
    numbered: bool | None = None,
) -> AnswerItemScore:
    """Judge all that a model wrote; what it was asked for decides where a text is also another choice's letter.

    The others are those of `read_answer`.
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


def judge_letters(question: Question, response: str) -> AnswerItemScore:
    """Judge by the plain comma split that the published table of candidates uses: "a,c" and nothing else."""
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


def scores(questions: Sequence[Question], item_scores: Sequence[AnswerItemScore]) -> list[Score]:
    """Share of right answers; no answer is wrong. The floor is chance on these very items, the ceiling 1."""
    return [accuracy(questions, item_scores, "answer")]


def accuracy(questions: Sequence[Question], item_scores: Sequence[AnswerItemScore], scorer: str) -> Score:
    """The score of these verdicts under the name of a track that reads answers so."""
    return score(
        questions,
        scorer=scorer,
        metric="accuracy",
        right=[item_score.correct for item_score in item_scores],
        floor=mean_chance(questions),
        ceiling=1.0,
        no_answer=sum(not item_score.answered for item_score in item_scores),
    )
