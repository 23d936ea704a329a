"""llama.cpp in a process of its own, because an error in native code ends the process."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from tempfile import TemporaryFile
from typing import Any, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from jmedllm.errors import InputError, not_installed

START_S = 300.0
"""Time limit for loading a model, in seconds."""

REQUEST_S = 600.0
"""Time limit of one request, in seconds."""

_CHILD = "jmedllm.deploy.llama_cpp_child"

_OPENER = build_opener(ProxyHandler({}))  # a proxy of the environment must not see requests to this machine


@dataclass(frozen=True, slots=True)
class LlamaServer:
    """A server of llama.cpp's HTTP interface.

    Attributes:
        url: its address, without a path.
        key: its API key, if it needs one.
    """

    url: str
    key: str | None = None

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a JSON request and return the values of the answer.

        Raises:
            InputError: see `send`; or the answer is not JSON.
        """
        answer = self.send(path, body)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise InputError(f"server {self.url}: {path} did not return JSON; is it a server of llama.cpp?") from error

    def send(self, path: str, body: Mapping[str, Any]) -> bytes:
        """Send a JSON request and return the answer's bytes.

        Raises:
            InputError: the server does not answer in time, or refuses the request.
        """
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = Request(f"{self.url}{path}", json.dumps(body).encode(), headers)
        try:
            with _OPENER.open(request, timeout=REQUEST_S) as answer:
                return bytes(answer.read())
        except HTTPError as error:
            text = error.read().decode(errors="replace")[:300]
            raise InputError(f"server {self.url}: {path} returned {error.code}: {text}") from error
        except (URLError, TimeoutError, ConnectionError) as error:
            raise InputError(f"server {self.url}: no answer from {path} ({error}); is it still running?") from error

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
    require_llama_cpp("deploy")
    command = [sys.executable, "-m", _CHILD, json.dumps({"file": str(file), **settings})]
    with (
        TemporaryFile() as errors,  # a pipe that nobody reads would stop the child when it is full
        subprocess.Popen(command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        try:
            yield LlamaServer(_address(process, file, errors))
        finally:
            process.kill()  # it has nothing to save


def _address(process: "subprocess.Popen[bytes]", file: Path, errors: BinaryIO) -> str:
    """Wait until the child prints its address, which ends its output."""
    assert process.stdout is not None
    deadline = time.monotonic() + START_S
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)  # unbuffered, so that no line waits in a buffer
        while selector.select(timeout=max(0.0, deadline - time.monotonic())):
            line = process.stdout.readline().decode(errors="replace").strip()
            if line.startswith("http://"):
                return line
            if not line and process.poll() is not None:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip().splitlines() or ["it gave no reason"]
                raise InputError(f"{file}: llama.cpp does not load it: {said[-1][:300]}")
    raise InputError(f"{file}: llama.cpp did not load it within {START_S:.0f} s; free memory or give a smaller model")
