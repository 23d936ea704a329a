"""A process of vLLM's server, on a Unix socket that only this user reaches."""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import BinaryIO

import httpx2 as httpx

from jmedllm.errors import InputError

START_S = 1800.0
"""Time limit for loading a model, in seconds: large ones are read, compiled and warmed up."""

_REPORT_S = 20.0
_POLL_S = 0.2
_GRACE_S = 10.0
"""Time for vLLM to end by itself, in seconds."""

_CHILD = "jmedllm.serving.backends.vllm_child"
_REASON = re.compile(r"(?:^|\s)(?:[\w.]+\.)?(\w*(?:Error|Exception)): (.+)")
_CONSEQUENCES = ("initialization failed", "Worker failed")
"""What vLLM writes after the reason."""


@dataclass(frozen=True, slots=True)
class VllmProcess:
    """A process of vLLM.

    Attributes:
        folder: the model directory.
        process: the process; it ends when its standard input is closed.
        errors: what it writes.
        key: the API key of its server.
        socket: directory of its socket.
        report: prints a line for the person who waits.
    """

    folder: Path
    process: "subprocess.Popen[bytes]"
    errors: BinaryIO
    key: str
    socket: "TemporaryDirectory[str]"
    report: Callable[[str], None]

    def address(self) -> str:
        """Wait until the server listens and return the path of its socket.

        Raises:
            InputError: vLLM does not load the model, or takes longer than `START_S`.
        """
        path = f"{self.socket.name}/vllm"
        began = time.monotonic()
        reported = began
        with httpx.Client(transport=httpx.HTTPTransport(uds=path), timeout=5) as client:
            while (now := time.monotonic()) < began + START_S:
                with suppress(httpx.TransportError):
                    if client.get("http://localhost/health").status_code == 200:
                        return path
                if self.process.poll() is not None:
                    raise InputError(f"{self.folder}: vLLM does not load it: {self.said()}; or give {_OTHER}")
                if now > reported + _REPORT_S:
                    reported = now
                    self.report(f"vLLM is loading {self.folder} ({now - began:.0f} s)")
                time.sleep(_POLL_S)
        raise InputError(f"{self.folder}: vLLM did not load it within {START_S:.0f} s; give {_OTHER}")

    def said(self) -> str:
        """Return why it does not load a model, or the last line that it wrote."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines() or ["it gave no reason"]
        reasons = [
            match
            for line in lines
            if (match := _REASON.search(line)) and not any(each in line for each in _CONSEQUENCES)
        ]
        return (reasons[-1][2] if reasons else lines[-1])[:300].rstrip(". ")

    def kill(self) -> None:
        """End the process and those that it has started."""
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_S + 5)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.errors.close()
        self.socket.cleanup()


_OTHER = "--backend transformers"


def start(
    folder: Path, options: Sequence[str], environment: Mapping[str, str], report: Callable[[str], None]
) -> VllmProcess:
    """Start a process that serves a model directory under the name `model`.

    Args:
        folder: the model directory.
        options: further options of `vllm serve`.
        environment: further variables of its environment.
        report: prints a line for the person who waits.
    """
    key = secrets.token_urlsafe(32)
    socket = TemporaryDirectory(prefix="jmedllm-vllm-")  # of mode 700; a port could be taken by another user
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(folder), "--uds", f"{socket.name}/vllm"]
    settings = {
        "folder": socket.name,
        "grace_s": _GRACE_S,
        "command": [*command, "--served-model-name", MODEL, *options],
        # Its processes speak to one another through sockets, which it leaves behind.
        "environment": {**environment, "VLLM_API_KEY": key, "VLLM_RPC_BASE_PATH": socket.name},
    }
    # A pipe that nobody reads would stop the process when it is full.
    errors = TemporaryFile()  # noqa: SIM115 - closed by `VllmProcess.kill`
    process = subprocess.Popen(
        [sys.executable, "-m", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,  # Ctrl-C is for us, and the processes that vLLM starts end together
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended, which `address` reports
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        process.stdin.flush()
    return VllmProcess(folder, process, errors, key, socket, report)


MODEL = "model"
"""Name of the model on vLLM's server."""
