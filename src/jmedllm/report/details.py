"""What sittings tell besides their scores, as small tables: the ministry's verdict, rotations, calibration."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jmedllm.evaluation.human_baseline import Group
from jmedllm.evaluation.reading import NO_ANSWER
from jmedllm.evaluation.rotations import Rotations
from jmedllm.evaluation.scorers.official import MOST_PROHIBITED, ExamOutcome
from jmedllm.evaluation.task import EvalResult

OUTCOME = {True: "pass", False: "fail", None: "items missing"}


@dataclass(frozen=True, slots=True)
class Detail:
    """One table of texts, with what must be said of it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def details(results: Sequence[EvalResult]) -> Iterator[Detail]:
    """All that there is to tell, in the order of the sittings."""
    if read := tuple(
        (_who(result), scorer, f"{sum(ways.values()):,}", told_ways(ways))
        for result in results
        for scorer, ways in result.readings.items()
    ):
        yield Detail(
            "How answers were read",
            ("model", "scorer", "n", "how"),
            read,
            "Commonest first; where there is no answer, why. None is ever made up. "
            + meanings(how for result in results for ways in result.readings.values() for how in ways),
        )
    if outcomes := [(_who(result), outcome) for result in results for outcome in result.official]:
        yield outcome_detail(outcomes)
    if beside := tuple(_group_row(result, group) for result in results for group in _presented(result.people)):
        yield Detail(
            "Beside the examinees",
            ("model", "scorer", "items", "n", "right", "95 % interval", "examinees"),
            beside,
            "All values in %. Items by the share of human examinees who were right, and the "
            f"{SUBJECTS_SHOWN} largest subjects; all are in the summary file.",
        )
    if turned := tuple(_rotation(result, found) for result in results for found in result.rotations):
        yield Detail(
            "Order of the choices",
            ("model", "scorer", "turns", "n", "accuracy", "alike", "95 % interval", "place picked too often"),
            turned,
            "Accuracy: mean over all turns. Alike: questions with the same answer in every turn. The last column "
            "is the place picked most beyond how often it is right, in points.",
        )
    if rows := tuple(
        (
            _who(result),
            f"{found.n:,}",
            f"{100 * found.expected_error:.1f}",
            f"{found.brier:.3f}",
        )
        for result in results
        if (found := result.calibration)
    ):
        yield Detail(
            "Calibration",
            ("model", "n", "expected error", "Brier"),
            rows,
            "From the choices' probabilities, items with one right choice. Expected error in points: how far "
            "confidence is from the share right. Brier: 0 is perfect, guessing among five gives 0.8.",
        )


def told_ways(ways: Mapping[str, int]) -> str:
    """How many responses were read in which way, and how many hold no answer for which reason."""
    return ", ".join(f"{'no answer: ' if how in NO_ANSWER else ''}{how} {n:,}" for how, n in ways.items())


def meanings(ways: Iterable[str]) -> str:
    """What those of `ways` that are reasons for no answer mean, one sentence each."""
    return " ".join(f"{how.capitalize()}: {NO_ANSWER[how]}." for how in dict.fromkeys(ways) if how in NO_ANSWER)


def outcome_detail(outcomes: Sequence[tuple[str, ExamOutcome]]) -> Detail:
    """Points, marks and pass or fail; each board with whose it is."""
    return Detail(
        "The ministry's rule",
        ("model", "exam", "right", "points", "95 %", "required", "general", "prohibited", "pictures", ""),
        tuple(
            (
                who,
                f"{outcome.exam} ({outcome.year})",
                f"{outcome.correct}/{outcome.n}",
                f"{outcome.points}/{outcome.max_points}",
                f"{outcome.points_low}-{outcome.points_high}",
                f"{outcome.required}/{outcome.required_mark}",
                f"{outcome.general}/{outcome.general_mark}",
                f"{outcome.prohibited}/{MOST_PROHIBITED}",
                f"{outcome.image_correct}/{outcome.image_n}",
                OUTCOME[outcome.passed],
            )
            for who, outcome in outcomes
        ),
        "Points of those to be had. Required and general: points of those needed to pass. Prohibited: items with "
        "a prohibited choice picked, of those allowed. Pictures: right answers to items whose picture we lack."
        + "".join(
            f" {who} picked a prohibited choice in {', '.join(outcome.prohibited_items)}."
            for who, outcome in outcomes
            if outcome.prohibited_items
        ),
    )


def _rotation(result: EvalResult, found: Rotations) -> tuple[str, ...]:
    worst = max(range(len(found.position_bias)), key=lambda place: found.position_bias[place])
    return (
        _who(result),
        found.scorer,
        str(found.turns),
        f"{found.n:,}",
        f"{100 * found.accuracy:.1f}",
        f"{100 * found.alike:.1f}",
        f"[{100 * found.alike_low:.1f}, {100 * found.alike_high:.1f}]",
        f"{worst + 1}: {100 * found.position_bias[worst]:+.1f}" if found.position_bias[worst] > 0 else "-",
    )


SUBJECTS_SHOWN = 8


def _presented(people: Sequence[Group]) -> list[Group]:
    """Where examinees' answers are known: all bands, and the largest subjects."""
    known = [group for group in people if group.examinees is not None]
    subjects = [group for group in known if group.kind == "subject"]
    return [group for group in known if group.kind == "difficulty"] + subjects[:SUBJECTS_SHOWN]


def _group_row(result: EvalResult, group: Group) -> tuple[str, ...]:
    return (
        _who(result),
        group.scorer,
        group.name,
        f"{group.n:,}",
        f"{100 * group.value:.1f}",
        f"[{100 * group.low:.1f}, {100 * group.high:.1f}]",
        f"{100 * (group.examinees or 0):.1f}",
    )


def _who(result: EvalResult) -> str:
    return f"{result.model} {result.settings['benchmark']} {result.settings['language']}"


def print_detail(detail: Detail, console: Console) -> None:
    """On the terminal."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title_justify="left")
    for index, name in enumerate(detail.head):
        table.add_column(name, justify="left" if index == 0 else "right", overflow="fold")
    for row in detail.rows:
        table.add_row(*map(Text, row))
    console.print(Text(detail.title, style="bold"))
    console.print(table)
    console.print(Text(detail.note, style="dim"))


def detail_markdown(detail: Detail) -> str:
    """As a Markdown section."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (detail.head, ("---",) * len(detail.head), *detail.rows)]
    return f"## {detail.title}\n\n" + "\n".join(lines) + f"\n\n{detail.note}\n"
