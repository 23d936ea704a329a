"""Selections: named filters of a benchmark's questions that count what they leave out."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.benchmarks import BENCHMARKS
from jmedllm.evaluation.question import Language, Question

LENGTH_LIMITS: Mapping[Language, int] = {"ja": 1024, "en": 2048}
"""The published protocol drops a question whose stem has more characters."""


Reason = str
"""Reason for leaving an item out, such as "with a picture"."""

PICTURE = "with a picture"
"""Its picture is not in the data, or the selection keeps text-only items."""
NO_POINTS = "taken out of grading (0 points)"
NO_ANSWER = "without a right answer"
WRONG = "in invalid rows (skip_invalid)"


def _all(question: Question) -> Reason | None:
    """Keep all items of the benchmark."""
    return None


def _graded(question: Question) -> Reason | None:
    """Keep the items that can be graded.

    This leaves out items that show a picture which is not in the data, items excluded from grading (0 points), and
    items without a right answer. It keeps numeric items, items answered in free text, and items where every answer is
    right.
    """
    if "image" in question.flags and not question.images:
        return PICTURE
    if question.points <= 0:
        return NO_POINTS
    answerable = bool(question.choices and question.gold) or question.number is not None or question.is_free_text
    return None if answerable else NO_ANSWER


def _legacy(question: Question) -> Reason | None:
    """Keep the items of the published protocol (stardust-coder/japanese-lm-med-harness, commit ef9544a).

    These are text-only items with choices and with a stem up to the length limit of their language. Benchmarks may
    restrict them further (`legacy_choices`, `legacy_subjects`). Points are ignored.
    """
    limit = LENGTH_LIMITS[question.language]
    if "image" in question.flags:
        return PICTURE
    if not question.gold:
        return NO_ANSWER if question.number is None else "answered by a number"
    if len(question.stem) > limit:
        return f"longer than {limit:,} characters"
    benchmark = BENCHMARKS.get(question.benchmark)
    if benchmark is None:
        return None
    if benchmark.legacy_choices not in (None, len(question.choices)):
        return f"without exactly {benchmark.legacy_choices} choices"
    if benchmark.legacy_subjects and question.subject is None:
        raise InputError(
            f"{question.benchmark} in {question.language!r}: the selection legacy needs subjects, "
            "which these files do not name; choose all or graded, or another language"
        )
    other = benchmark.legacy_subjects and question.subject not in benchmark.legacy_subjects
    return "in subjects that the published protocol leaves out" if other else None


SELECTIONS: Mapping[str, Callable[[Question], Reason | None]] = {"all": _all, "graded": _graded, "legacy": _legacy}
"""Selection → function that returns why a question is left out, or None to keep it."""


@dataclass(frozen=True, slots=True)
class Selected:
    """Result of a selection.

    Attributes:
        questions: selected questions, in their order.
        left_out: number of questions left out by reason, most frequent first.
    """

    questions: tuple[Question, ...]
    left_out: dict[Reason, int]


def select(questions: Iterable[Question], name: str) -> list[Question]:
    """Return the questions of the selection `name`, in their order.

    Raises:
        InputError: see `select_counted`.
    """
    return list(select_counted(questions, name).questions)


def select_counted(questions: Iterable[Question], name: str) -> Selected:
    """Apply the selection `name`, and count the questions that it leaves out.

    Raises:
        InputError: there is no such selection, or it is not defined for these questions.
    """
    if name not in SELECTIONS:
        raise unknown("selection", name, SELECTIONS)
    return keep(questions, SELECTIONS[name])


def select_text_only(questions: Iterable[Question], name: str) -> Selected:
    """Apply the selection `name` without the questions that show a picture, because training is on text."""
    selected = select_counted(questions, name)
    text_only = keep(selected.questions, lambda question: PICTURE if question.images else None)
    counts = Counter(selected.left_out) + Counter(text_only.left_out)
    return Selected(text_only.questions, dict(counts.most_common()))


def keep(questions: Iterable[Question], left_out: Callable[[Question], Reason | None]) -> Selected:
    """Keep the questions for which `left_out` has no reason, and count the others."""
    reasons = [(question, left_out(question)) for question in questions]
    counted = Counter(reason for _, reason in reasons if reason is not None)
    return Selected(tuple(question for question, reason in reasons if reason is None), dict(counted.most_common()))


def default_selection(benchmark: str) -> str:
    """Return the default selection: that of a registered benchmark, so that scores are comparable with published ones;
    all gradable items for custom questions."""
    return BENCHMARKS[benchmark].default_selection if benchmark in BENCHMARKS else "graded"


def account(task: str, selection: str, kept: int, left_out: Mapping[Reason, int]) -> str:
    """Describe in one sentence how many items of a benchmark are kept, and how many are left out and why."""
    reasons = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
    whole = kept + sum(left_out.values())
    return f"{task}, selection {selection}: {kept:,} of {whole:,} items. Left out: {reasons}."
