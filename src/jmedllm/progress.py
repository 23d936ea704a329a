"""What is said while work goes on, on standard error so that results can be piped."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from jmedllm.processes import is_main_process

Advance = Callable[[int, str], None]
"""Called with the number of steps done since the last call and a short note to show."""


@cache
def notice(line: str) -> None:
    """Print a line on standard error that the user should know of, once; of several processes only the first."""
    if is_main_process():
        sys.stderr.write(f"note: {line}\n")
        sys.stderr.flush()


LOG_SECONDS = 30.0
"""Between two lines where there is no terminal to draw a bar on."""


@contextmanager
def progress(title: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Show `title`, a bar, the note of the last call and the time left; in a log file, a line now and then.

    Of several processes only the first shows anything.
    """
    if not is_main_process():
        yield lambda steps, note: None
        return
    yield from _bar(title, total, done) if sys.stderr.isatty() else _log(title, total, done)


def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<7}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")
        yield lambda steps, note: bar.update(task, advance=steps, note=note)


def _log(title: str, total: int, done: int) -> Iterator[Advance]:
    began = last = time.monotonic()
    count = done

    def advance(steps: int, note: str) -> None:
        nonlocal last, count
        count += steps
        now = time.monotonic()
        if now - last >= LOG_SECONDS:
            last = now
            left = (now - began) / (count - done) * (total - count)
            sys.stderr.write(f"{title} {count}/{total}  {note}  {left / 60:.1f} min left\n")
            sys.stderr.flush()

    yield advance
