"""Start commands in processes of their own without waiting for their imports.

Importing torch, transformers and peft takes six seconds, most of what a small command takes. `python fork_server.py`
imports them once and forks itself for each command; it has one thread, so that forking is safe. Commands that
must not share imports, hash seed or memory with others are started with `subprocess` as usual.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULES = ("bitsandbytes", "peft", "transformers", "torch.distributed.tensor", "safetensors.torch")


@dataclass
class Command:
    """A process that the server has forked.

    Attributes:
        returncode: as `subprocess` has it; None while it runs.
    """

    server: "ForkServer"
    pid: int
    output: Path
    errors: Path
    returncode: int | None = None

    def wait(self, timeout: float = 120) -> int:
        """Wait for its end; after `timeout` seconds it is killed."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(self.stderr)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.server.ask(wait=self.pid)
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    @property
    def stdout(self) -> str:
        return self.output.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self.errors.read_text(encoding="utf-8")


class ForkServer:
    """The server as the tests see it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **request: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, *command: object, **environment: str) -> Command:
        """Start what `python COMMAND...` would: `-m MODULE`, `-c CODE` or a file, and its arguments."""
        self.count += 1
        output, errors = (self.folder / f"{self.count}.{name}" for name in ("out", "err"))
        whole = dict(os.environ) | environment
        pid = self.ask(
            command=[*map(str, command)],
            environment=whole,
            folder=str(Path.cwd()),
            files=[str(output), str(errors)],
        )
        return Command(self, pid, output, errors)

    def run(self, *command: object, timeout: float = 120, **environment: str) -> Command:
        """Start a command and wait for its end."""
        started = self.start(*command, **environment)
        started.wait(timeout)
        return started

    def ranks(self, count: int, *command: object, **environment: str) -> list[Command]:
        """Start a command as torchrun does: in `count` processes that know of one another."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
        size = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        environment |= address | size
        return [self.start(*command, **environment, RANK=str(n), LOCAL_RANK=str(n)) for n in range(count)]

    def run_ranks(self, count: int, *command: object, **environment: str) -> list[Command]:
        """Start a command in `count` processes and wait for their ends. If one fails, the others are ended."""
        started = self.ranks(count, *command, **environment)
        while any(each.poll() is None for each in started):
            if any(each.poll() for each in started):
                time.sleep(0.5)  # for others that are about to end by themselves
                for each in started:
                    if each.poll() is None:
                        each.kill()
            time.sleep(0.005)
        return started

    def stop(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def _serve() -> None:
    os.environ["PYTHONWARNINGS"] = "ignore"
    for name in MODULES:
        with suppress(ImportError):  # an extra that is not installed
            __import__(name)
    for line in sys.stdin:
        request = json.loads(line)
        answer = _ended(request["wait"]) if "wait" in request else _fork(request)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _ended(pid: int) -> int | None:
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        code = _run(request)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(request: dict[str, Any]) -> int:
    """Run a command in this process, as a fresh interpreter would."""
    os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    os.close(0)
    os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate(request["files"], 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.path[0:1] = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
    kind, *arguments = request["command"]
    start: Callable[[], object]
    if kind == "-m":
        sys.argv = [arguments[0], *arguments[1:]]
        start = lambda: runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)  # noqa: E731
    elif kind == "-c":
        sys.argv = ["-c", *arguments[1:]]
        start = lambda: exec(arguments[0], {"__name__": "__main__"})  # noqa: E731
    else:
        sys.argv = [kind, *arguments]
        sys.path.insert(0, str(Path(kind).parent))
        start = lambda: runpy.run_path(kind, run_name="__main__")  # noqa: E731
    try:
        start()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001
        import traceback

        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve()
