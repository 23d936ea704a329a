"""Tables that fit the width of a terminal without breaking names.

A table that is too wide is made narrower in this order: headings and running text wrap between words, the gaps shrink,
each name gets a line of its own, and at last each row becomes a list of its values. Only a name that is wider than the
terminal is shortened, in its middle, and a legend gives it in full.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

LEAST_NAME = 12
"""Minimum width of a shortened name."""

LEAST_TEXT = 28
"""Minimum width of running text next to names; if it is narrower, names get separate lines."""

LONGEST_WORD = 24
"""A longer word, such as a Japanese phrase without spaces, may be broken."""

_INDENT = "  "
Names = Mapping[str, str]
"""Name → printed name."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column after the first.

    Attributes:
        heading: title of the column; wraps between words.
        is_text: running text, aligned left and wrapped between words; the cells of other columns stay on one line.
    """

    heading: str
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A row with its label, usually a name, and one cell for each column."""

    label: str
    cells: tuple[str, ...]
    style: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table without a fixed width.

    Attributes:
        heading: heading of the labels.
        groups: rows by the caption that they share; an empty caption is not printed.
    """

    heading: str
    columns: tuple[Column, ...]
    groups: tuple[tuple[str, tuple[Line, ...]], ...]

    @property
    def lines(self) -> list[Line]:
        """All rows."""
        return [line for _, lines in self.groups for line in lines]

    @property
    def indent(self) -> str:
        """Indentation of labels, which is used below captions."""
        return _INDENT if any(caption for caption, _ in self.groups) else ""


def print_grid(build: Callable[[Names], Grid], names: Iterable[str], console: Console) -> dict[str, str]:
    """Print the table that `build` makes of printed names; see `fit`.

    Returns:
        Shortened names with their full names, for a legend.
    """
    lines, legend = fit(build, names, console.width)
    _print(lines, console)
    return legend


def print_legend(legend: Mapping[str, str], console: Console) -> None:
    """Print the full names of shortened ones."""
    for short, name in legend.items():
        _print([Text(line, style="dim") for line in _wrapped(f"{short} = {name}", console.width)], console)


def _print(lines: Iterable[Text], console: Console) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def fit(build: Callable[[Names], Grid], names: Iterable[str], width: int) -> tuple[list[Text], dict[str, str]]:
    """Fit the table that `build` makes of printed names into `width`; return its lines and the legend of shortened
    names."""
    every = list(dict.fromkeys(names))
    longest = max(map(cell_len, every), default=0)
    grid = build({name: name for name in every})
    excess = (
        max((cell_len(grid.indent + word) for line in grid.lines for word in line.label.split()), default=0) - width
    )
    short = shorten(every, max(LEAST_NAME, longest - excess) if excess > 0 else longest)
    grid, legend = build(short), _legend(short)
    for is_stacked in (False, True):
        if found := _widths(grid, width, is_stacked):
            return list(_draw(grid, *found, width)), legend
    return list(_listed(grid, width)), legend


def shorten(names: Sequence[str], limit: int) -> dict[str, str]:
    """Shorten names to at most `limit` cells by removing their middle; different names stay different."""
    found = {name: name for name in names if cell_len(name) <= limit}
    for name in names:
        if name in found:
            continue
        short, number = _without_middle(name, limit, "…"), 1
        while short in found.values():
            number += 1
            short = _without_middle(name, limit, f"…{number}…")
        found[name] = short
    return found


def _without_middle(name: str, limit: int, mark: str) -> str:
    room = max(2, limit - cell_len(mark))
    tail = _crop(name[::-1], room // 2)[::-1]
    return _crop(name, room - cell_len(tail)) + mark + tail


def _crop(text: str, cells: int) -> str:
    used = 0
    for place, character in enumerate(text):
        used += cell_len(character)
        if used > cells:
            return text[:place]
    return text


def _legend(short: Names) -> dict[str, str]:
    return {printed: name for name, printed in short.items() if name != printed}


def _widths(grid: Grid, width: int, is_stacked: bool) -> tuple[list[int], int, bool] | None:
    """Return the width of labels and columns, the gap between them, and whether labels have separate lines."""
    labels = max((cell_len(line.label) for line in grid.lines), default=0) + len(grid.indent)
    first = len(grid.indent) if is_stacked else max(labels, _least(grid.heading, ()))
    cells = [[line.cells[index] for line in grid.lines] for index in range(len(grid.columns))]
    text = 0 if is_stacked else LEAST_TEXT
    least = [first, *(_least_of(column, texts, text) for column, texts in zip(grid.columns, cells, strict=True))]
    ideal = [
        first if is_stacked else max(first, cell_len(grid.heading)),
        *(max(map(cell_len, (column.heading, *texts))) for column, texts in zip(grid.columns, cells, strict=True)),
    ]
    for gap in (2, 1):
        spare = width - sum(least) - gap * len(grid.columns)
        if spare >= 0:
            return _spread(least, ideal, spare), gap, is_stacked
    return None


def _spread(least: Sequence[int], ideal: Sequence[int], spare: int) -> list[int]:
    """Distribute the spare cells, first to the columns that need the fewest."""
    widths = list(least)
    for index in sorted(range(len(least)), key=lambda index: ideal[index] - least[index]):
        given = max(0, min(spare, ideal[index] - least[index]))
        widths[index] += given
        spare -= given
    return widths


def _least_of(column: Column, cells: Sequence[str], text: int) -> int:
    if column.is_text:
        widest = max(map(cell_len, cells), default=0)
        return max(min(text, widest), _least(column.heading, [word for cell in cells for word in cell.split()]))
    return _least(column.heading, cells, longest=None)


def _least(heading: str, unbroken: Sequence[str], longest: int | None = LONGEST_WORD) -> int:
    widest = max(map(cell_len, unbroken), default=0)
    return max(*map(cell_len, heading.split() or [""]), widest if longest is None else min(longest, widest), 1)


def _draw(grid: Grid, widths: Sequence[int], gap: int, is_stacked: bool, width: int) -> Iterator[Text]:
    heads = [_wrapped("" if is_stacked else grid.heading, widths[0])]
    heads += [_wrapped(column.heading, size) for column, size in zip(grid.columns, widths[1:], strict=True)]
    if is_stacked:
        yield from (Text(line, style="bold") for line in _wrapped(grid.heading, width))
    depth = max(map(len, heads))
    raised = [[""] * (depth - len(head)) + head for head in heads]
    for cells in zip(*raised, strict=True):
        text = Text(_joined(cells, grid.columns, widths, gap), style="dim")
        text.stylize("not dim bold", 0, widths[0])
        yield text
    yield Text("─" * (sum(widths) + gap * len(grid.columns)), style="dim")
    for caption, lines in grid.groups:
        yield from (Text(line, style="italic") for line in _wrapped(caption, width) if line)
        previous = ""
        for line in lines:
            label = grid.indent + line.label if line.label != previous else ""
            previous = line.label
            if is_stacked and label:
                room = width - len(grid.indent)
                yield from (Text(grid.indent + part, style=line.style) for part in _wrapped(line.label, room))
            parts = [["" if is_stacked else label]]
            parts += [_wrapped(cell, size) for cell, size in zip(line.cells, widths[1:], strict=True)]
            for number in range(max(map(len, parts))):
                row = [part[number] if number < len(part) else "" for part in parts]
                yield Text(_joined(row, grid.columns, widths, gap), style=line.style)


def _joined(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], gap: int) -> str:
    text = _padded(cells[0], widths[0], is_text=True)
    for cell, column, size in zip(cells[1:], columns, widths[1:], strict=True):
        text += " " * gap + _padded(cell, size, column.is_text)
    return text.rstrip()


def _padded(cell: str, size: int, is_text: bool) -> str:
    space = " " * (size - cell_len(cell))
    return cell + space if is_text else space + cell


def _listed(grid: Grid, width: int) -> Iterator[Text]:
    """Yield each row as a list of its values."""
    for caption, lines in grid.groups:
        yield from (Text(line, style="italic") for line in _wrapped(caption, width) if line)
        for line in lines:
            yield from (Text(part, style=line.style) for part in _wrapped(line.label, width))
            values = (
                f"{column.heading or 'result'}: {cell}"
                for column, cell in zip(grid.columns, line.cells, strict=True)
                if cell
            )
            wrapped = _wrapped("; ".join(values), width - len(_INDENT))
            yield from (Text(_INDENT + part, style=line.style) for part in wrapped)


def _wrapped(text: str, width: int) -> list[str]:
    """Wrap text to at most `width` cells between words, or within a word that is wider."""
    lines, line = [], ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        while cell_len(joined) > width:
            if line:
                lines.append(line)
                joined, line = word, ""
                continue
            part = _crop(joined, width) or joined[0]
            lines.append(part)
            joined = joined[len(part) :]
        line = joined
    return [*lines, line] if line or not lines else lines
