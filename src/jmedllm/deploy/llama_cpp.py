"""llama.cpp in a process of its own, because an error in native code ends the process."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from jmedllm.deploy.endpoint import Endpoint
from jmedllm.errors import InputError, not_installed

_POLL_S = 0.5

START_S = 300.0
"""Time limit for loading a model, in seconds."""

_REASON = "error loading model: "
"""What llama.cpp writes before the reason."""

_CHILD = "jmedllm.deploy.llama_cpp_child"


_WAITING = {"GOMP_SPINCOUNT": "1000"}
"""How long a thread of llama.cpp waits for the others before it gives its core away. Without it, threads that wait for
one another on a busy machine keep the cores from those that they wait for: 0.4 to 1 token/s instead of 9 to 33, with
the same 131 tokens/s on an idle machine (SmolLM2-135M, Q8_0, two threads on two cores, 2026-11-30)."""


@dataclass(frozen=True, slots=True)
class LlamaServer(Endpoint):
    """A server of llama.cpp's HTTP interface."""

    def token_ids(self, text: str) -> list[int]:
        """Return the ids of a text, with BOS if the model's texts begin with it; special tokens are recognized."""
        answer = self.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        return [int(number) for number in answer["tokens"]]


def require_llama_cpp(feature: str) -> None:
    """Check that llama.cpp is installed.

    Raises:
        InputError: the package xllamacpp is missing.
    """
    if find_spec("xllamacpp") is None:
        raise not_installed(feature, "xllamacpp")


@contextmanager
def serving(file: Path, **settings: Any) -> Iterator[LlamaServer]:
    """Serve a GGUF file on 127.0.0.1 until the block ends.

    Args:
        file: the GGUF file.
        settings: settings of the child process, see `llama_cpp_child`.

    Raises:
        InputError: llama.cpp is not installed, does not load the file, or takes longer than `START_S`.
    """
    with started(file, **settings) as process:
        yield LlamaServer(process.address(), process.key)


@dataclass(frozen=True, slots=True)
class LlamaProcess:
    """A process of llama.cpp.

    Attributes:
        file: the GGUF file.
        process: the process; it ends when its standard input is closed.
        errors: what it writes to standard error.
        key: the API key of its server.
    """

    file: Path
    process: "subprocess.Popen[bytes]"
    errors: BinaryIO
    key: str

    def said(self) -> str:
        """Return why it does not load a file, or the last line that it wrote to standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines() or ["it gave no reason"]
        reasons = [line.partition(_REASON)[2] for line in lines if _REASON in line]
        return (reasons or lines)[-1][:300]

    def address(self) -> str:
        """Wait until the server listens and return its address.

        Raises:
            InputError: llama.cpp does not load the file, or takes longer than `START_S`.
        """
        assert self.process.stdout is not None
        deadline = time.monotonic() + START_S
        with DefaultSelector() as selector:
            selector.register(self.process.stdout, EVENT_READ)  # unbuffered, so that no line waits in a buffer
            while (left := deadline - time.monotonic()) > 0:
                # Not all of the time at once: another thread that ends the process can close the pipe meanwhile.
                is_readable = selector.select(timeout=min(left, _POLL_S))
                line = self.process.stdout.readline().decode(errors="replace").strip() if is_readable else ""
                if line.startswith("http://"):
                    return line
                if not line and self.process.poll() is not None:
                    raise InputError(f"{self.file}: llama.cpp does not load it: {self.said()}")
        raise InputError(
            f"{self.file}: llama.cpp did not load it within {START_S:.0f} s; free memory or give a smaller model"
        )

    def kill(self) -> None:
        """End the process, which has nothing to save."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def start(file: Path, **settings: Any) -> LlamaProcess:
    """Start a process that serves a GGUF file on 127.0.0.1; its settings are in `llama_cpp_child`.

    Raises:
        InputError: llama.cpp is not installed.
    """
    require_llama_cpp("deploy")
    key = secrets.token_urlsafe(32)
    # A pipe that nobody reads would stop the process when it is full.
    errors = TemporaryFile()  # noqa: SIM115 - closed by `LlamaProcess.kill`
    process = subprocess.Popen(
        [sys.executable, "-m", _CHILD],
        bufsize=0,
        env=_WAITING | os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,  # Ctrl-C is for us, and we end it
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended, which `address` reports
        process.stdin.write(json.dumps({"file": str(file), "key": key, **settings}).encode() + b"\n")
    return LlamaProcess(file, process, errors, key)


@contextmanager
def started(file: Path, **settings: Any) -> Iterator[LlamaProcess]:
    """Run a process that serves a GGUF file until the block ends, see `start`."""
    process = start(file, **settings)
    try:
        yield process
    finally:
        process.kill()
