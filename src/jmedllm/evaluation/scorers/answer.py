"""Track `answer`: the choices, or the number, that a free response states as its answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from jmedllm.evaluation.gold import has_answer, is_right, mean_chance
from jmedllm.evaluation.order import Shown
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question, canonical_number
from jmedllm.evaluation.reading import Reading, read_answer, same_answer
from jmedllm.evaluation.statistics import Score, score
from jmedllm.models.thoughts import Thought


@dataclass(frozen=True, slots=True)
class AnswerVerdict:
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
    shown: Shown,
    response: str,
    answer_as: AnswerForm = "text",
    *,
    truncated: bool = False,
    thought_open: bool | None = False,
    thoughts: Sequence[Thought] = (),
    numbered: bool | None = None,
) -> AnswerVerdict:
    """Judge all that a model wrote; what it was asked for decides where a text is also another choice's letter.

    The others are those of `read_answer`.
    """
    reading = read_answer(
        shown.permuted,
        response,
        truncated=truncated,
        answer_as=answer_as,
        thought_open=thought_open,
        thoughts=thoughts,
        numbered=numbered,
    )
    return AnswerVerdict(
        shown.printed(sorted(reading.chosen)), reading.number, reading.how, _is_right(shown.permuted, reading)
    )


def judge_letters(question: Question, response: str) -> AnswerVerdict:
    """Judge by the plain comma split that the published table of candidates uses: "a,c" and nothing else."""
    if question.number is not None:
        try:
            number = canonical_number(response)
        except ValueError:
            return AnswerVerdict((), None, "not a number", False)
        return AnswerVerdict((), number, "number", number == question.number)
    letters = response.split(",")
    chosen = {ord(letter) - ord("a") for letter in letters if len(letter) == 1}
    if len(chosen) != len(set(letters)) or not chosen <= set(range(len(question.choices))):
        return AnswerVerdict((), None, "not letters", False)
    return AnswerVerdict(tuple(sorted(chosen)), None, "letters", is_right(question, chosen))


def _is_right(question: Question, reading: Reading) -> bool:
    if reading.chosen and "every_answer_right" in question.flags:
        return True
    return any(same_answer(question, reading, gold) for gold in (question.gold, *question.also_right))


def scores(questions: Sequence[Question], verdicts: Sequence[AnswerVerdict]) -> list[Score]:
    """Share of right answers; no answer is wrong. The floor is chance on these very items, the ceiling 1."""
    return [accuracy(questions, verdicts, "answer")]


def accuracy(questions: Sequence[Question], verdicts: Sequence[AnswerVerdict], track: str) -> Score:
    """The score of these verdicts under the name of a track that reads answers so."""
    return score(
        questions,
        track=track,
        metric="accuracy",
        right=[verdict.correct for verdict in verdicts],
        floor=mean_chance(questions),
        ceiling=1.0,
        no_answer=sum(not verdict.answered for verdict in verdicts),
    )
