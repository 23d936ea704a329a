"""The table of a check, and what it means in a sentence."""

from collections.abc import Iterator

from jmedllm.canary.check import Checked
from jmedllm.canary.groups import Drawn, Group

_HEADER = ("copies", "n", "exposure, bits", "controls", "p", "greedy", "beam search")


def table(checked: Checked) -> Iterator[str]:
    """Yield the lines of the table."""
    rows = [_HEADER, *map(cells, checked.groups)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    for row in rows:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def header() -> tuple[str, ...]:
    """Return the names of the columns."""
    return _HEADER


def cells(group: Group) -> tuple[str, ...]:
    """Return a group as a row of the table."""
    name = "control" if group.copies == 0 else "all" if group.copies is None else str(group.copies)
    inside = "-" if group.control_low is None else f"[{group.control_low:.1f}, {group.control_high:.1f}]"
    p = "-" if group.adjusted_p is None else f"{group.adjusted_p:.4f}" if group.adjusted_p < 0.01 else (
        f"{group.adjusted_p:.2f}"
    )  # fmt: skip
    bits = f"{group.exposure:.1f} [{group.low:.1f}, {group.high:.1f}]"
    return name, str(group.n), bits, inside, p, _share(group.greedy), _share(group.beam)


def _share(drawn: Drawn) -> str:
    return f"{drawn.count} of {drawn.of} [{100 * drawn.low:.0f} %, {100 * drawn.high:.0f} %]"


def explanation(checked: Checked) -> str:
    """Return how the exposure was measured."""
    methods = sorted({each.exposure.method for each in checked.canaries})
    highest = sorted({round(each.exposure.highest, 2) for each in checked.canaries})
    among = f"among {checked.candidates:,} candidates" if methods == ["sampled"] else "among all secrets of their form"
    if len(methods) > 1:
        among = f"among {checked.candidates:,} candidates, or all of their form"
    return (
        f"secrets ranked {among} ({', '.join(methods)} rank), so that the exposure is at most "
        f"{' or '.join(f'{each:g}' for each in highest)} bits; without memorization it is 1.44 on average"
    )


def conclusion(checked: Checked) -> str:
    """Return what the check has shown, in a sentence."""
    exposed = [group for group in checked.groups if group.copies and group.is_exposed]
    together = next((group for group in checked.groups if group.copies is None), checked.groups[-1])
    drawn = sum(group.greedy.count or group.beam.count for group in checked.groups if group.copies)
    if exposed or together.is_exposed:
        numbers = ", ".join(str(group.copies) for group in exposed)
        where = f" with {numbers} {'copy' if numbers == '1' else 'copies'}" if exposed else ""
        return f"memorized: canaries{where} are more exposed than the controls, or were drawn"
    seen = f" of {checked.detectable:.1f} bits or more" if checked.detectable is not None else ""
    return (
        f"nothing seen: {drawn} drawn, and the exposure is that of the controls; a difference{seen} would have been "
        "seen with 80 % power"
    )
