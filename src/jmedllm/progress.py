"""Progress of long work and notices, on standard error so that results can be piped."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from jmedllm.output import visible
from jmedllm.processes import is_main_process

Advance = Callable[[int, str], None]
"""Called with the number of steps done since the last call, which may be 0, and a short note to show."""

LOG_SECONDS = 30.0
"""Time between the first lines in a log. It doubles with each line, up to `LONGEST_LOG_SECONDS`."""

LONGEST_LOG_SECONDS = 600.0

BAR = 24
"""Columns of the bar on a terminal; a third of that if the terminal has fewer than `NARROW` columns."""

NARROW = 60

REDRAW_SECONDS = 0.1

BATCHES = 3
"""Batches after the first from which the time left is estimated. The first batch includes the start-up."""

PAUSE = 0.2
"""Seconds without a call that end a batch: a model answers the questions of a batch all at once."""

LONGEST_BATCH = 1.0
"""Seconds after which a batch ends if the calls come without a pause."""


@cache
def notice(line: str) -> None:
    """Print a notice to the user, each line once; only the main process prints."""
    if is_main_process():
        if _drawn[0]:
            _draw("")
        sys.stderr.write(f"note: {visible(line)}\n")
        sys.stderr.flush()


class TimeLeft:
    """Estimates the time left from finished batches, without the first one, which includes the start-up.

    Args:
        total: all steps.
        done: steps that were done before this process started.
    """

    def __init__(self, total: int, done: int) -> None:
        self._total = total
        self._count = done
        self._batch_began = self._last_call = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._end: tuple[float, int] | None = None
        self._batches = 0

    def advance(self, steps: int) -> None:
        """Count steps that were just done."""
        now = time.monotonic()
        if self._batches or self._first:
            ended = now - self._last_call >= PAUSE or now - self._batch_began >= LONGEST_BATCH
            if ended:
                self._end_batch()
                self._batch_began = now
        else:
            self._first = (now, self._count)
            self._batch_began = now
        self._count += steps
        self._last_call = now

    def _end_batch(self) -> None:
        end = (self._last_call, self._count)
        if self._batches == 0:
            self._first = end
        self._end = end
        self._batches += 1

    def seconds(self) -> float | None:
        """Return the time left, or None while it cannot be estimated."""
        if self._batches <= BATCHES or self._first is None or self._end is None:
            return None
        (began, first), (ended, last) = self._first, self._end
        if last <= first:
            return None
        left = (ended - began) / (last - first) * (self._total - last)
        return max(0.0, left - (time.monotonic() - ended))


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show the progress of `total` steps: one line that is redrawn on a terminal, sparse lines in a log.

    Only the main process shows progress.

    Args:
        title: title of the work.
        total: number of steps.
        done: number of steps that an interrupted run has completed.
    """
    if not is_main_process():
        yield lambda steps, note: None
        return
    yield from _line(title, total, done) if sys.stderr.isatty() else _log(title, total, done)


def duration(seconds: float) -> str:
    """Format a time in its two largest units: "40 s", "12 min", "3 h 20 min", "2 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def _line(title: str, total: int, done: int) -> Iterator[Advance]:
    time_left, count, drawn = TimeLeft(total, done), done, 0.0

    def advance(steps: int, note: str) -> None:
        nonlocal count, drawn
        if steps:
            time_left.advance(steps)
        count += steps
        now = time.monotonic()
        if now - drawn >= REDRAW_SECONDS or count >= total:
            drawn = now
            _draw(_fitted(title, (count, total), note, _left(time_left)))

    _draw(_fitted(title, (done, total), "", ""))
    try:
        yield advance
    finally:
        _draw("")


def _fitted(title: str, count: tuple[int, int], note: str, left: str) -> str:
    """Format one line that fits the terminal by cutting title and note."""
    from rich.cells import cell_len, set_cell_size

    done, total = count
    width = shutil.get_terminal_size().columns - 1
    columns = BAR if width >= NARROW else BAR // 3
    filled = round(columns * min(1.0, done / max(1, total)))
    bar = f"{'━' * filled}{'─' * (columns - filled)} {done:,}/{total:,}"

    def cut(text: str, most: int) -> str:
        return text if cell_len(text) <= most else f"{set_cell_size(text, max(0, most - 1)).rstrip()}…"

    room = width - cell_len(bar) - cell_len(left) - 6
    title = cut(title, max(1, room - min(cell_len(note), room // 2)))
    note = cut(note, room - cell_len(title)) if room > cell_len(title) else ""
    return "  ".join(part for part in (title, bar, note, left) if part)


def _draw(line: str) -> None:
    """Replace the line that is drawn on the terminal."""
    sys.stderr.write(f"\r\x1b[2K{visible(line)}")
    sys.stderr.flush()
    _drawn[0] = bool(line)


_drawn = [False]
"""Whether a progress line is on the terminal now."""


def _log(title: str, total: int, done: int) -> Iterator[Advance]:
    began = last = time.monotonic()
    interval, count = LOG_SECONDS, done
    time_left = TimeLeft(total, done)

    def advance(steps: int, note: str) -> None:
        nonlocal last, count, interval
        if steps:
            time_left.advance(steps)
        count += steps
        now = time.monotonic()
        if now - last >= interval:
            last, interval = now, min(2 * interval, LONGEST_LOG_SECONDS)
            _write(title, f"{count}/{total}", note, _left(time_left))

    yield advance
    if last > began:
        _write(title, f"{count}/{total}", f"finished after {duration(time.monotonic() - began)}")


def _left(time_left: TimeLeft) -> str:
    seconds = time_left.seconds()
    return "" if seconds is None else f"{duration(seconds)} left"


def _write(*parts: str) -> None:
    sys.stderr.write(visible("  ".join(part for part in parts if part)) + "\n")
    sys.stderr.flush()
