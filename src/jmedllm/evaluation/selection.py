"""Which of a benchmark's questions are evaluated: a named step of its own that counts what it leaves out."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.benchmarks import BENCHMARKS
from jmedllm.evaluation.question import Language, Question

LENGTH_LIMITS: Mapping[Language, int] = {"ja": 1024, "en": 2048}
"""The published protocol drops a question whose stem has more characters."""

LEGACY_SUBJECTS = frozenset(
    {"anatomy", "clinical_knowledge", "college_medicine", "medical_genetics", "professional_medicine"}
)
"""The published protocol's part of MMLU and JMMLU."""


Reason = str
"""Why an item is left out, such as "shows a picture"."""

PICTURE = "with a picture"
NO_POINTS = "taken out of grading (0 points)"
NO_ANSWER = "without a right answer"
WRONG = "in rows that are wrong (skip_invalid)"


def _all(question: Question) -> Reason | None:
    """Everything the benchmark holds."""
    return None


def _graded(question: Question) -> Reason | None:
    """What a model that reads text can be graded on.

    Out go: items that show a picture, items excluded from grading (0 points), and items without any right
    answer. Numeric items and items where every answer is right stay in.
    """
    if "image" in question.flags:
        return PICTURE
    if question.points <= 0:
        return NO_POINTS
    answerable = bool(question.choices and question.gold) or question.number is not None
    return None if answerable else NO_ANSWER


def _legacy(question: Question) -> Reason | None:
    """What the published protocol sat (stardust-coder/japanese-lm-med-harness, commit ef9544a).

    Text only, with choices; IgakuQA with exactly five of them, MMLU and JMMLU in five subjects; no stem
    over the length limit of its language. Points play no part.
    """
    limit = LENGTH_LIMITS[question.language]
    if "image" in question.flags:
        return PICTURE
    if not question.gold:
        return NO_ANSWER if question.number is None else "answered by a number"
    if len(question.stem) > limit:
        return f"longer than {limit:,} characters"
    if question.benchmark == "igakuqa":
        return None if len(question.choices) == 5 else "without exactly five choices"
    if question.benchmark in ("mmlu", "jmmlu"):
        if question.subject is None:
            raise InputError(
                f"{question.benchmark} in {question.language!r}: the selection legacy needs subjects, "
                "which these files do not name; choose all or graded, or another language"
            )
        return None if question.subject in LEGACY_SUBJECTS else "in other subjects than the published five"
    return None


SELECTIONS: Mapping[str, Callable[[Question], Reason | None]] = {"all": _all, "graded": _graded, "legacy": _legacy}
"""For each selection, why it leaves a question out; None where it takes it."""


@dataclass(frozen=True, slots=True)
class Selected:
    """What a selection gave.

    Attributes:
        questions: those it takes, in their order.
        left_out: how many it leaves out for which reason, commonest first.
    """

    questions: tuple[Question, ...]
    left_out: dict[Reason, int]


def select(questions: Iterable[Question], name: str) -> list[Question]:
    """The questions that the selection `name` takes, in their order.

    Raises:
        InputError: see `select_counted`.
    """
    return list(select_counted(questions, name).questions)


def select_counted(questions: Iterable[Question], name: str) -> Selected:
    """Keep the questions that the selection `name` takes, and count the others.

    Raises:
        InputError: there is no such selection, or it is not defined for these questions.
    """
    if name not in SELECTIONS:
        raise unknown("selection", name, SELECTIONS)
    return keep(questions, SELECTIONS[name])


def keep(questions: Iterable[Question], left_out: Callable[[Question], Reason | None]) -> Selected:
    """Keep the questions for which `left_out` has no reason, and count the others."""
    reasons = [(question, left_out(question)) for question in questions]
    counted = Counter(reason for _, reason in reasons if reason is not None)
    return Selected(tuple(question for question, reason in reasons if reason is None), dict(counted.most_common()))


def default_selection(benchmark: str) -> str:
    """The selection where the user names none: of a published benchmark the published one, so that scores can
    stand beside the published ones; of a user's own file all that can be graded."""
    return "legacy" if benchmark in BENCHMARKS else "graded"


def account(task: str, selection: str, kept: int, left_out: Mapping[Reason, int]) -> str:
    """One sentence that accounts for every item of a benchmark: how many are kept, how many not and why."""
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
    whole = kept + sum(left_out.values())
    return f"{task}, selection {selection}: {kept:,} of {whole:,} items. Left out: {reasons}."
