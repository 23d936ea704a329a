"""Small SVG charts for the page, with labels for screen readers.

All values are shares from 0 to 1. Classes `s0` to `s7` are the colours of models.
"""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape

SERIES = 8
"""Number of colours; further models reuse them from the first."""

_WIDTH, _HEIGHT = 100, 12


def series(index: int) -> str:
    """Return the CSS class of a model's colour."""
    return f"s{index % SERIES}"


def _svg(width: float, height: float, body: str, label: str, css: str) -> Markup:
    head = f'<svg class="{css}" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
    return Markup(f"{head}{body}</svg>")


def _line(css: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{css}" x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}"/>'


def _dot(css: str, x: float, y: float, r: float) -> str:
    return f'<circle class="{css}" cx="{x:.2f}" cy="{y:.2f}" r="{r:g}"/>'


def score_mark(value: float, interval: tuple[float, float] | None, bounds: Sequence[float]) -> Markup:
    """Draw a score on the line from 0 to 1, with its interval and ticks at its bounds: floor and ceiling.

    A score outside, such as a negative kappa, is drawn at the end of the line.
    """

    def x(share: float) -> float:
        return 100 * max(0.0, min(1.0, share))

    middle = _HEIGHT / 2
    parts = [_line("axis", 0, middle, _WIDTH, middle)]
    parts += [_line("bound", x(at), 1, x(at), _HEIGHT - 1) for at in bounds]
    if interval is not None:
        parts.append(_line("range", x(interval[0]), middle, x(interval[1]), middle))
    parts.append(_dot("value", x(value), middle, 3))
    return _svg(_WIDTH, _HEIGHT, "".join(parts), f"{100 * value:.1f} %", "mark")


def difference_mark(difference: float, low: float, high: float, reach: float) -> Markup:
    """Draw a difference with its interval on the line from -reach to reach, with a tick at 0."""
    middle = _HEIGHT / 2

    def x(value: float) -> float:
        return _WIDTH * (0.5 + max(-1.0, min(1.0, value / reach)) / 2)

    body = (
        _line("axis", 0, middle, _WIDTH, middle)
        + _line("bound", _WIDTH / 2, 0, _WIDTH / 2, _HEIGHT)
        + _line("range", x(low), middle, x(high), middle)
        + _dot("value", x(difference), middle, 3)
    )
    return _svg(_WIDTH, _HEIGHT, body, f"{100 * difference:+.1f} points", "mark")


def group_mark(groups: Sequence[tuple[int, float, float, float]], examinees: float | None, label: str) -> Markup:
    """Draw the scores of several models in one group, each (series, value, low, high), and the examinees' score.

    The chart is as wide as its cell and a fixed number of pixels high, so that rows stay low on a wide screen.
    """
    step = 10
    height = step * len(groups) + 8
    parts = [_line("axis", at, 0, at, height) for at in (0, 25, 50, 75, 100)]
    if examinees is not None:
        parts.append(_line("people", 100 * examinees, 0, 100 * examinees, height))
    for row, (number, value, low, high) in enumerate(groups):
        y = height / 2 + step * (row - (len(groups) - 1) / 2)
        # A round dot at any width: a line without length, whose width and round ends are in pixels.
        inner = _line("range", 100 * low, y, 100 * high, y) + _line("dot", 100 * value, y, 100 * value, y)
        parts.append(f'<g class="{series(number)}">{inner}</g>')
    return Markup(
        f'<svg class="group" viewBox="0 0 100 {height}" height="{height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def reliability(bins: Sequence[dict[str, Any]], label: str) -> Markup:
    """Draw a reliability diagram: share right against probability, with dots sized by the number of items."""
    n = sum(each["n"] for each in bins)
    parts = [
        '<rect class="frame" x="0" y="0" width="100" height="100"/>',
        _line("bound", 0, 100, 100, 0),
        *(_line("axis", at, 0, at, 100) + _line("axis", 0, at, 100, at) for at in (25, 50, 75)),
    ]
    points = [(100 * each["probability"], 100 - 100 * each["right"], each["n"]) for each in bins]
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y, _ in points)
    parts.append(f'<polyline class="range" points="{path}"/>')
    parts += [_dot("value", x, y, 1.5 + 5 * (count / n) ** 0.5) for x, y, count in points]
    return _svg(100, 100, "".join(parts), label, "reliability")


def bias_bars(values: Sequence[float], label: str) -> Markup:
    """Draw a bar for each position: up if it is picked too often, down if too rarely."""
    reach = max(0.05, *(abs(value) for value in values))
    bars = "".join(
        f'<rect class="bar" x="{12 * place + 2}" width="8" y="{16 - 14 * max(0.0, value) / reach:.2f}" '
        f'height="{14 * abs(value) / reach:.2f}"/>'
        for place, value in enumerate(values)
    )
    width = 12 * len(values)
    return _svg(width, 32, bars + _line("axis", 0, 16, width, 16), label, "bias")
