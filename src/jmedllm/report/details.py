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
from jmedllm.evaluation.scorers.official import MOST_PROHIBITED, Board
from jmedllm.evaluation.task import Sitting

OUTCOME = {True: "pass", False: "fail", None: "items missing"}


@dataclass(frozen=True, slots=True)
class Detail:
    """One table of texts, with what must be said of it."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str


def details(sittings: Sequence[Sitting]) -> Iterator[Detail]:
    """All that there is to tell, in the order of the sittings."""
    if read := tuple(
        (_who(sitting), track, f"{sum(ways.values()):,}", told_ways(ways))
        for sitting in sittings
        for track, ways in sitting.readings.items()
    ):
        yield Detail(
            "How answers were read",
            ("model", "track", "n", "how"),
            read,
            "Commonest first; where there is no answer, why. None is ever made up. "
            + meanings(how for sitting in sittings for ways in sitting.readings.values() for how in ways),
        )
    if boards := [(_who(sitting), board) for sitting in sittings for board in sitting.official]:
        yield board_detail(boards)
    if beside := tuple(_group_row(sitting, group) for sitting in sittings for group in _shown(sitting.people)):
        yield Detail(
            "Beside the examinees",
            ("model", "track", "items", "n", "right", "95 % interval", "examinees"),
            beside,
            "All values in %. Items by the share of human examinees who were right, and the "
            f"{SUBJECTS_SHOWN} largest subjects; all are in the summary file.",
        )
    if turned := tuple(_rotation(sitting, found) for sitting in sittings for found in sitting.rotations):
        yield Detail(
            "Order of the choices",
            ("model", "track", "turns", "n", "accuracy", "alike", "95 % interval", "place picked too often"),
            turned,
            "Accuracy: mean over all turns. Alike: questions with the same answer in every turn. The last column "
            "is the place picked most beyond how often it is right, in points.",
        )
    if rows := tuple(
        (
            _who(sitting),
            f"{found.n:,}",
            f"{100 * found.expected_error:.1f}",
            f"{found.brier:.3f}",
        )
        for sitting in sittings
        if (found := sitting.calibration)
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


def board_detail(boards: Sequence[tuple[str, Board]]) -> Detail:
    """Points, marks and pass or fail; each board with whose it is."""
    return Detail(
        "The ministry's rule",
        ("model", "exam", "right", "points", "95 %", "required", "general", "prohibited", "pictures", ""),
        tuple(
            (
                who,
                f"{board.exam} ({board.year})",
                f"{board.correct}/{board.n}",
                f"{board.points}/{board.max_points}",
                f"{board.points_low}-{board.points_high}",
                f"{board.required}/{board.required_mark}",
                f"{board.general}/{board.general_mark}",
                f"{board.prohibited}/{MOST_PROHIBITED}",
                f"{board.image_correct}/{board.image_n}",
                OUTCOME[board.passed],
            )
            for who, board in boards
        ),
        "Points of those to be had. Required and general: points of those needed to pass. Prohibited: items with "
        "a prohibited choice picked, of those allowed. Pictures: right answers to items whose picture we lack."
        + "".join(
            f" {who} picked a prohibited choice in {', '.join(board.prohibited_items)}."
            for who, board in boards
            if board.prohibited_items
        ),
    )


def _rotation(sitting: Sitting, found: Rotations) -> tuple[str, ...]:
    worst = max(range(len(found.position_bias)), key=lambda place: found.position_bias[place])
    return (
        _who(sitting),
        found.track,
        str(found.turns),
        f"{found.n:,}",
        f"{100 * found.accuracy:.1f}",
        f"{100 * found.alike:.1f}",
        f"[{100 * found.alike_low:.1f}, {100 * found.alike_high:.1f}]",
        f"{worst + 1}: {100 * found.position_bias[worst]:+.1f}" if found.position_bias[worst] > 0 else "-",
    )


SUBJECTS_SHOWN = 8


def _shown(people: Sequence[Group]) -> list[Group]:
    """Where examinees' answers are known: all bands, and the largest subjects."""
    known = [group for group in people if group.examinees is not None]
    subjects = [group for group in known if group.kind == "subject"]
    return [group for group in known if group.kind == "difficulty"] + subjects[:SUBJECTS_SHOWN]


def _group_row(sitting: Sitting, group: Group) -> tuple[str, ...]:
    return (
        _who(sitting),
        group.track,
        group.name,
        f"{group.n:,}",
        f"{100 * group.value:.1f}",
        f"[{100 * group.low:.1f}, {100 * group.high:.1f}]",
        f"{100 * (group.examinees or 0):.1f}",
    )


def _who(sitting: Sitting) -> str:
    return f"{sitting.model} {sitting.settings['benchmark']} {sitting.settings['language']}"


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
