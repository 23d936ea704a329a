"""A model's server in a process of its own, which is started again if it ends."""

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2 as httpx

from jmedllm.errors import InputError
from jmedllm.serving.model import Unavailable

RESTARTS = 3
"""How often in a row a process is started again before the server gives up."""

STEADY_S = 3600.0
"""A process that has run for so long, in seconds, is the first in a row: a server runs for months."""

_POLL_S = 0.1


class Process(Protocol):
    """A process with an HTTP server."""

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The process."""
        ...

    @property
    def key(self) -> str:
        """The key of its server."""
        ...

    def address(self) -> str:
        """Wait until it listens; return its URL, or the path of its Unix socket.

        Raises:
            InputError: it does not load the model, or takes too long.
        """
        ...

    def kill(self) -> None:
        """End it, and what it has started."""
        ...


@dataclass
class ChildServer:
    """A process, and requests to it.

    Attributes:
        title: what runs in it, such as `llama.cpp`.
        begin: starts the process.
        report: prints a line for the person who runs the server.
        failed: set when the process has ended and is not started again.
    """

    title: str
    begin: Callable[[], Process]
    report: Callable[[str], None]
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    _process: Process | None = None
    _client: httpx.AsyncClient | None = None
    _watching: "asyncio.Task[None] | None" = None

    async def start(self) -> None:
        """Start the process, and start it again whenever it ends.

        Raises:
            InputError: what it needs is not installed, or it does not load the model.
        """
        try:
            await self._load()
        except BaseException:
            await self.close()
            raise
        self._watching = asyncio.create_task(self._watch())

    async def _load(self) -> None:
        self._process = process = self.begin()
        address = await asyncio.to_thread(process.address)
        is_socket = address.startswith("/")
        self._client = httpx.AsyncClient(
            base_url="http://localhost" if is_socket else address,
            transport=httpx.AsyncHTTPTransport(
                uds=address if is_socket else None,
                limits=httpx.Limits(max_connections=None),
                trust_env=False,  # a proxy of the environment must not see requests to this machine
            ),
            headers={"Authorization": f"Bearer {process.key}"},
            timeout=None,  # the server limits the time of a request
            trust_env=False,
        )

    async def _watch(self) -> None:
        restart = 0
        while True:
            began = time.monotonic()
            code = await self._exit_code()
            restart = 1 if time.monotonic() - began >= STEADY_S else restart + 1
            client, self._client = self._client, None
            if client is not None:
                await client.aclose()
            ended = f"{self.title} ended by itself ({f'signal {-code}' if code < 0 else f'exit code {code}'})"
            if restart > RESTARTS:
                self.report(f"{ended}; it was started again {RESTARTS} times in a row, which is the limit")
                break
            self.report(f"{ended}; starting it again ({restart} of {RESTARTS})")
            try:
                await self._load()
            except InputError as error:
                self.report(str(error))
                break
        self.failed.set()

    async def _exit_code(self) -> int:
        assert self._process is not None
        while (code := self._process.process.poll()) is None:
            await asyncio.sleep(_POLL_S)
        self._process.kill()
        return code

    async def close(self) -> None:
        """End the process."""
        if self._watching is not None:
            self._watching.cancel()
        if self._process is not None:
            await asyncio.to_thread(self._process.kill)
        if self._client is not None:
            await self._client.aclose()

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a request and return the answer's JSON.

        Raises:
            Unavailable: the process has ended.
        """
        with self._failures():
            answer = await self._connected().post(path, json=body)
            self._require_ok(answer.status_code, answer.content)
            return answer.json()

    async def events(self, path: str, body: Mapping[str, Any]) -> AsyncGenerator[Any, None]:
        """Send a request and yield the JSON of each event of the stream.

        Raises:
            Unavailable: the process has ended, or reports an error.
        """
        with self._failures():
            async with self._connected().stream("POST", path, json=body) as answer:
                if answer.status_code != 200:
                    self._require_ok(answer.status_code, await answer.aread())
                rest = b""
                async for part in answer.aiter_bytes():
                    *lines, rest = (rest + part).split(b"\n")  # not at U+2028, which JSON strings may contain
                    for line in lines:
                        if line.startswith((b"error:", b'data: {"error"')):
                            said = line.removeprefix(b"data: ").decode(errors="replace")[:300]
                            raise Unavailable(f"{self.title} failed during this answer, which is lost: {said}")
                        if line.startswith(b"data: {"):
                            yield json.loads(line[len(b"data: ") :])

    def lost(self) -> Unavailable:
        """Return the error of an answer that was being written when the process ended."""
        return Unavailable(f"{self.title} ended during this answer, which is lost; ask again")

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            raise self.lost() from error

    def _connected(self) -> httpx.AsyncClient:
        if self._client is None:
            raise Unavailable(f"{self.title} ended and is being started again; retry in some seconds")
        return self._client

    def _require_ok(self, status: int, content: bytes) -> None:
        text = content.decode(errors="replace")[:300]
        if status >= 500:  # vLLM's server outlives the process that computes by some seconds
            raise Unavailable(f"{self.title} failed: {text}")
        if status != 200:
            raise RuntimeError(f"{self.title} refuses a request of this server with {status}: {text}")
