"""Select the questions that the requested scorers can score."""

from collections.abc import Iterable, Sequence

from jmedllm.evaluation.gold import has_answer
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.selection import NO_ANSWER, Selected, keep


def scorable(questions: Iterable[Question], scorers: Sequence[str]) -> Selected:
    """Keep the questions that at least one of the scorers can score, and count the others."""

    def unscored(question: Question) -> str | None:
        if any(SCORERS[scorer].applies(question) for scorer in scorers):
            return None
        if has_answer(question) or question.is_free_text:
            return f"that {', '.join(scorers)} cannot score"
        return NO_ANSWER

    return keep(questions, unscored)
