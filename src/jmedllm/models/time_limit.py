"""Ends Python code of others that takes too long, in any thread."""

import ctypes
import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.1
_SETTLE_S = 2.0

Clock = Callable[[], float]

_running: dict[object, tuple[int, Clock, float]] = {}
"""Thread, clock and deadline of each call. Whoever removes an entry, the call or the watcher, decides how it ends."""

_wake = threading.Event()
_start = threading.Lock()
_watcher: threading.Thread | None = None


class OverrunError(Exception):
    """Code took more than its time."""


class _Overrun(BaseException):
    """Raised in the thread of the code. Code that handles `Exception` does not catch it."""


def within(seconds: float, work: Callable[[], T]) -> T:
    """Return what `work` returns.

    The limit is on the processor time of this thread, so that a busy machine ends nothing. Code in C runs to its end.

    Raises:
        OverrunError: it took more time.
    """
    token, clock = object(), _thread_clock()
    _ensure_watcher()
    try:
        _running[token] = (threading.get_ident(), clock, clock() + seconds)
        _wake.set()
        try:
            result = work()
        except _Overrun:
            raise
        except BaseException:
            _settle(token)
            raise
        _settle(token)
        return result
    except _Overrun:
        raise OverrunError from None


def _settle(token: object) -> None:
    """End a call; if the watcher has decided to end it, wait for its exception."""
    if _running.pop(token, None) is None:
        until = time.monotonic() + _SETTLE_S
        while time.monotonic() < until:
            time.sleep(0.001)


def _thread_clock() -> Clock:
    """Return the clock of this thread's processor time; where the system has none, that of the wall."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return time.monotonic
    clock = time.pthread_getcpuclockid(threading.get_ident())
    return lambda: time.clock_gettime(clock)


def _ensure_watcher() -> None:
    global _watcher
    if _watcher is None or not _watcher.is_alive():
        with _start:
            if _watcher is None or not _watcher.is_alive():
                _watcher = threading.Thread(target=_watch, name="jmedllm-time-limit", daemon=True)
                _watcher.start()


def _watch() -> None:
    while True:
        _wake.clear()
        if not _running:
            _wake.wait()
        time.sleep(_POLL_S)
        for token, (thread, clock, deadline) in list(_running.items()):
            if _passed(clock, deadline) and _running.pop(token, None) is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(_Overrun))


def _passed(clock: Clock, deadline: float) -> bool:
    try:
        return clock() > deadline
    except OSError:  # the thread has ended
        return False


def _after_fork() -> None:
    global _watcher, _wake, _start
    _running.clear()
    _watcher, _wake, _start = None, threading.Event(), threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
