"""Reads PDF, Word and HTML files in a process of their own, with limits on its time and memory.

A hostile file can keep a library in C busy for hours, fill the memory or crash it. Here it ends a process that has
nothing but the file: the next file gets a new one. The process is started for the first such file.

    this process ── suffix, limits, bytes of the file ──► python -m jmedllm.corpus.readers.convert
                 ◄── text, title and gap, or the reason why there are none ──
"""

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

from jmedllm import offline
from jmedllm.corpus.readers import limits
from jmedllm.corpus.readers.file_text import FileText
from jmedllm.corpus.readers.formats import FORMATS
from jmedllm.errors import InputError

_MODULE = "jmedllm.corpus.readers.convert"
_SOURCE = Path(__file__).parents[3]
_LENGTH = 8
_EXPLANATION = "leave it out, or export its text as .txt"


def convert(suffix: str, raw: bytes) -> FileText:
    """Return the text of a file.

    Raises:
        InputError: the file has no text that can be read, or its reader took too long, needed too much memory or died.
    """
    with _lock:
        return _reader().convert(suffix, raw)


class _Reader:
    """A process that reads files, and its pipes."""

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, (str(_SOURCE), os.environ.get("PYTHONPATH"))))
        self.owner = os.getpid()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE],  # -P: nothing in the current directory is imported
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )

    def convert(self, suffix: str, raw: bytes) -> FileText:
        task = {"suffix": suffix, "seconds": limits.MOST_SECONDS, "memory": limits.MOST_MEMORY}
        try:
            _send(self.process.stdin, json.dumps(task).encode())
            _send(self.process.stdin, raw)
            reply = _receive(self.process.stdout)
        except BaseException:  # such as Ctrl-C: what is in the pipes belongs to no later file
            self.process.kill()
            self.process.wait()
            raise
        if reply is None:
            raise InputError(_why_ended(self.process.wait()))
        answer: dict[str, Any] = json.loads(reply.decode("utf-8", "surrogatepass"))
        if "error" in answer:
            raise InputError(answer["error"])
        return FileText(answer["text"], answer["title"], answer["gap"])


_lock = threading.Lock()
_current: list[_Reader] = []


def _reader() -> _Reader:
    """Return the process of this process, a new one if the last file has ended it."""
    if not _current or _current[0].owner != os.getpid() or _current[0].process.poll() is not None:
        _current[:] = [_Reader()]
    return _current[0]


@atexit.register
def _end() -> None:
    for each in _current:
        if each.owner == os.getpid():
            each.process.kill()
            each.process.wait()


def _why_ended(status: int) -> str:
    if status == -signal.SIGPROF:
        return f"takes more than {limits.MOST_SECONDS} seconds to read; {_EXPLANATION}"
    if status == -signal.SIGKILL:
        return f"ended its reader, most likely for lack of memory; {_EXPLANATION}"
    name = signal.Signals(-status).name if status < 0 else f"code {status}"
    return f"ended its reader ({name}); {_EXPLANATION}"


def _send(pipe: Any, data: bytes) -> None:
    try:
        pipe.write(len(data).to_bytes(_LENGTH, "big"))
        pipe.write(data)
        pipe.flush()
    except BrokenPipeError:  # the process has ended, and its status says why
        pass


def _receive(pipe: Any) -> bytes | None:
    """Return the next message, None at the end of the pipe."""
    head = pipe.read(_LENGTH)
    size = int.from_bytes(head, "big")
    data: bytes = pipe.read(size) if len(head) == _LENGTH else b""
    return data if len(head) == _LENGTH and len(data) == size else None


def _serve(tasks: BinaryIO, replies: BinaryIO) -> None:
    """Answer tasks until the process that sends them ends."""
    while (head := _receive(tasks)) is not None:
        task = json.loads(head)
        if (raw := _receive(tasks)) is None:
            return
        resource.setrlimit(resource.RLIMIT_AS, (task["memory"], resource.getrlimit(resource.RLIMIT_AS)[1]))
        signal.setitimer(signal.ITIMER_PROF, task["seconds"])  # its signal ends this process, even inside a library
        answer = _answer(task["suffix"], raw)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _send(replies, json.dumps(answer, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def _answer(suffix: str, raw: bytes) -> dict[str, Any]:
    try:
        found = FORMATS[suffix](raw)
    except InputError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": f"needs more than {limits.MOST_MEMORY >> 30} GB of memory to read; {_EXPLANATION}"}
    if len(found.text) > limits.MOST_CHARACTERS:
        return {"error": f"has more than {limits.MOST_CHARACTERS:,} characters of text; {_EXPLANATION}"}
    return found._asdict()


if __name__ == "__main__":
    offline.install()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for the answer
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _serve(sys.stdin.buffer, sys.stdout.buffer)
