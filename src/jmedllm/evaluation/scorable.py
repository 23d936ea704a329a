"""Select the questions that the requested scorers can score."""

from collections.abc import Collection, Iterable, Sequence

from jmedllm.errors import InputError
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


def cannot_score(scorer: str, questions: Collection[Question]) -> InputError:
    """Return the error for a scorer that can score none of the questions; it names the scorers that can."""
    able = [name for name, other in SCORERS.items() if any(map(other.applies, questions))]
    fix = f"choose another scorer: {', '.join(able)}" if able else "no scorer can; give questions with right answers"
    return InputError(f"scorer {scorer} cannot score any of these questions; {fix}")
