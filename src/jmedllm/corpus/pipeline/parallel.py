"""Runs the same function on many parts in several processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import TypeVar

from jmedllm.errors import InputError
from jmedllm.signals import Terminated, blocked_signals, exit_code, ignore_signals

Job = TypeVar("Job")


def run_parallel(work: Callable[[Job], None], jobs: Iterable[Job], processes: int, done: Callable[[], None]) -> None:
    """Run all jobs in parallel, in any order; `done` is called after each.

    Args:
        work: a function of a module, or a partial of one, since processes receive it by name.

    Raises:
        InputError: a job raised it, or a process died.
    """
    waiting = list(jobs)
    if processes == 1 or len(waiting) < 2:
        for job in waiting:
            work(job)
            done()
        return
    # Spawned and not forked: torch may have threads by now, and their locks would never be released.
    context = multiprocessing.get_context("spawn")
    with blocked_signals():
        resource_tracker.ensure_running()  # which would print tracebacks if a closed terminal ended it
    ending, end = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(min(processes, len(waiting)), context, _begin_process, (ending,))
    with ending, end, pool:
        try:
            with blocked_signals():
                running = [pool.submit(_interruptible, work, job) for job in waiting]
            for finished in as_completed(running):
                finished.result()
                done()
        except BrokenProcessPool:
            raise InputError(
                "a process of the corpus build died, most likely for lack of memory; "
                "lower --processes: the same command resumes from the finished parts"
            ) from None
        except (KeyboardInterrupt, Terminated):
            end.close()  # ends the jobs that run; they would take minutes
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_works = [False]
"""Whether this process of a pool has a job."""


def _begin_process(ending: Connection) -> None:
    """Leave signals to the main process, and end when it ends, or when it has closed the other end of `ending`."""
    signal.signal(signal.SIGTERM, _end)
    ignore_signals(signal.SIGINT, signal.SIGHUP)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel, ending])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _end(number: int, _: FrameType | None) -> None:
    if not _works[0]:
        os._exit(exit_code(number))
    raise Terminated(number)  # a job removes its temporary files first


def _interruptible(work: Callable[[Job], None], job: Job) -> None:
    """Do a job in a process of the pool. The pool itself would continue after `Terminated`."""
    _works[0] = True
    try:
        work(job)
    except Terminated as ended:
        os._exit(exit_code(ended.number))
    finally:
        _works[0] = False
