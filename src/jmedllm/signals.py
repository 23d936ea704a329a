"""SIGTERM and SIGHUP end a command as Ctrl-C does: the block that runs cleans up, and one line says how to resume."""

import errno
import os
import signal
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that end a command."""

AGAIN_S = 3.0
"""A second signal within this time is ignored, in seconds: torchrun passes on a signal that its processes have already
received, and it must not end the cleaning up. A later one ends that, too."""


class Terminated(SystemExit):
    """A signal has ended the command. The exit code is 128 and the number of the signal, as for a shell.

    Attributes:
        number: the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(exit_code(number))
        self.number = number


def exit_code(number: int) -> int:
    """Return the exit code of a command that a signal has ended: 130, 143 or 129."""
    return 128 + number


def last_line(number: int, fix: str = "run the same command again to resume") -> str:
    """Return the message for the user of a command that a signal has ended."""
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return f"interrupted{by}; {fix}"


def signal_behind(error: BaseException | None) -> int | None:
    """Return the signal that an exception, or one that was handled when it was raised, stands for; None if none does.

    What is interrupted can fail while it cleans up, and that error would be reported instead.
    """
    while error is not None:
        if isinstance(error, Terminated):
            return error.number
        if isinstance(error, KeyboardInterrupt):
            return signal.SIGINT
        error = error.__context__
    return None


@contextmanager
def signals_first() -> Iterator[None]:
    """Raise `Terminated` instead of an error that follows from a signal.

    Raises:
        Terminated: SIGINT, SIGTERM or SIGHUP was received.
    """
    try:
        yield
    except BaseException as error:
        number = signal_behind(error)
        if number is None:
            raise
        raise Terminated(number) from None


def handle_signals() -> None:
    """Raise `Terminated` in the main thread when a signal is received.

    For Ctrl-C, too: after a KeyboardInterrupt that passed through C code, Python replaces the exit code.
    A signal that was ignored when this process started, as nohup and shells do, stays ignored.
    """
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _raise_later


def ignore_signals(*numbers: int) -> None:
    """Ignore signals in a child process, whose parent ends it: a terminal and a service manager send them to all.

    Args:
        numbers: the signals; all of `ENDING` if none is given.
    """
    for number in numbers or ENDING:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Receive signals only when the block has ended, which starts children that call `ignore_signals`.

    They inherit it, so that a signal to all does not end them with a traceback while they import modules.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_LATER_S = 0.05

_received = [float("-inf")]
"""When the last signal was received."""


def _raise(number: int, _: FrameType | None) -> None:
    now = time.monotonic()
    if now - _received[0] < AGAIN_S:
        return
    _received[0] = now
    _leave_closed_terminal()
    raise Terminated(number)


def _leave_closed_terminal() -> None:
    """Write to /dev/null if the terminal was closed: the error of the next line would replace the signal."""
    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _raise_later(found: Any) -> None:
    """Send a signal again that Python dropped, because it was received in a `__del__` or a callback."""
    number = found.exc_value and signal_behind(found.exc_value)
    if number is None:
        sys.__unraisablehook__(found)
        return
    _received[0] = float("-inf")
    again = threading.Timer(_LATER_S, signal.pthread_kill, (threading.main_thread().ident, number))
    again.daemon = True
    again.start()
