"""Runs the same function on many parts in several processes."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from jmedllm.errors import InputError

Job = TypeVar("Job")


def available_processes() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    with ProcessPoolExecutor(min(processes, len(waiting)), context, _end_with_parent) as pool:
        running = [pool.submit(work, job) for job in waiting]
        try:
            for finished in as_completed(running):
                finished.result()
                done()
        except BrokenProcessPool:
            raise InputError(
                "a process of the corpus build died, most likely for lack of memory; "
                "lower --processes: the same command resumes from the finished parts"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Leave Ctrl-C to the main process, and exit when the main process is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
