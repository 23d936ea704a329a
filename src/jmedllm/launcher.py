"""Runs one command in several processes of this machine, which meet in a file and keep to the loopback interface.

torchrun does the same for several machines, but its store listens on all interfaces and looks up names.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from jmedllm.errors import InputError
from jmedllm.processes import RENDEZVOUS, available_cores, claim_report, loopback_interface

_WORKER = "jmedllm.cli.launch_worker"

_POLL_S = 0.1

GRACE_S = 10.0
"""Time for the other processes to end by themselves, in seconds."""


def launch(command: Sequence[str], processes: int) -> int:
    """Run a command of jmedllm in several processes until all have ended, or one has failed, which ends the others.

    Args:
        command: the words of the command, such as `run recipe.yaml`.
        processes: number of processes.

    Returns:
        0, or the exit code of the process that failed first; it has printed its error.

    Raises:
        InputError: a process was killed.
    """
    with TemporaryDirectory(prefix="jmedllm-launch-") as folder, _started(command, processes, folder) as running:
        failed = _first_failed(running)
        if failed is None:
            return 0
        code = running[failed].returncode
        if code > 0:
            return code
        claim_report(folder)
        why = ", most likely for lack of memory" if -code == signal.SIGKILL else ""
        raise InputError(
            f"process {failed + 1} of {processes} was ended by {signal.Signals(-code).name}{why}; what is done so far "
            "is kept, and the same command resumes"
        )


def _first_failed(running: Sequence["subprocess.Popen[bytes]"]) -> int | None:
    """Wait until a process has failed, and return its rank, or until all have ended well."""
    while True:
        codes = [each.poll() for each in running]
        if any(codes):
            return next(rank for rank, code in enumerate(codes) if code)
        if None not in codes:
            return None
        time.sleep(_POLL_S)


@contextmanager
def _started(command: Sequence[str], processes: int, folder: str) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Start the processes, and end those that still run when the block ends."""
    interface = loopback_interface()
    shared = {
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "GLOO_SOCKET_IFNAME": interface,
        "NCCL_SOCKET_IFNAME": interface,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, available_cores() // processes))),
        RENDEZVOUS: folder,
    }
    running: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(processes):
            running.append(
                subprocess.Popen(
                    [sys.executable, "-m", _WORKER, *command],
                    env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdin=subprocess.PIPE,  # closed when this process ends, however it ends
                    start_new_session=True,  # Ctrl-C is for this process, which ends the others
                )
            )
        yield running
    except BaseException:
        claim_report(folder)  # this process prints why it ends; the others need not
        raise
    finally:
        for each in running:
            each.terminate()
        deadline = time.monotonic() + GRACE_S
        for each in running:
            try:
                each.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                each.kill()
                each.wait()
            if each.stdin is not None:
                each.stdin.close()
