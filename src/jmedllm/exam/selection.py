"""Which of a benchmark's questions are sat: a step of its own, with a name that stands in every result."""

from collections.abc import Callable, Iterable, Mapping

from jmedllm.errors import InputError, unknown
from jmedllm.exam.question import Language, Question

LENGTH_LIMITS: Mapping[Language, int] = {"ja": 1024, "en": 2048}
"""The published protocol drops a question whose stem has more characters."""

LEGACY_SUBJECTS = frozenset(
    {"anatomy", "clinical_knowledge", "college_medicine", "medical_genetics", "professional_medicine"}
)
"""The published protocol's part of MMLU and JMMLU."""


def _all(question: Question) -> bool:
    """Everything the benchmark holds."""
    return True


def _graded(question: Question) -> bool:
    """What a model that reads text can be graded on.

    Out go: items that show a picture, items excluded from grading (0 points), and items without any right
    answer. Numeric items and items where every answer is right stay in.
    """
    answerable = bool(question.choices and question.gold) or question.number is not None
    return answerable and "image" not in question.flags and question.points > 0


def _legacy(question: Question) -> bool:
    """What the published protocol sat (stardust-coder/japanese-lm-med-harness, commit ef9544a).

    Text only, with choices; IgakuQA with exactly five of them, MMLU and JMMLU in five subjects; no stem
    over the length limit of its language. Points play no part.
    """
    too_long = len(question.stem) > LENGTH_LIMITS[question.language]
    if too_long or "image" in question.flags or not question.gold:
        return False
    if question.benchmark == "igakuqa":
        return len(question.choices) == 5
    if question.benchmark in ("mmlu", "jmmlu"):
        if question.subject is None:
            raise InputError(
                f"{question.benchmark} in {question.language!r}: the selection legacy needs subjects, "
                "which these files do not name; choose all or graded, or another language"
            )
        return question.subject in LEGACY_SUBJECTS
    return True


SELECTIONS: Mapping[str, Callable[[Question], bool]] = {"all": _all, "graded": _graded, "legacy": _legacy}


def select(questions: Iterable[Question], name: str) -> list[Question]:
    """Keep the questions that the selection `name` takes, in their order.

    Raises:
        InputError: there is no such selection, or it is not defined for these questions.
    """
    if name not in SELECTIONS:
        raise unknown("selection", name, SELECTIONS)
    return [question for question in questions if SELECTIONS[name](question)]
