"""Connections end in time, and nothing of them is kept."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from scripted_model import ScriptedModel

uvicorn = pytest.importorskip("uvicorn")

from uvicorn.server import ServerState  # noqa: E402

from jmedllm.serving import protocol  # noqa: E402
from jmedllm.serving.app import Service, create_app  # noqa: E402

HEAD = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[int, Callable[[], int]]]:
    """Yield a port, and the function that counts the connections in memory."""
    config = uvicorn.Config(create_app(Service(ScriptedModel(), "k", 1)), log_config=None, access_log=False)
    config.load()
    state, made = ServerState(), weakref.WeakSet[protocol.HeadLimitProtocol]()

    def connect() -> protocol.HeadLimitProtocol:
        made.add(each := protocol.HeadLimitProtocol(config, state, {}))
        return each

    server = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", 0)

    def count() -> int:
        gc.collect()
        return len(made)

    async with server:
        yield server.sockets[0].getsockname()[1], count


async def answered(port: int, *parts: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await asyncio.sleep(0.01)
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
        await writer.wait_closed()


def test_nothing_is_kept_of_a_connection_that_has_ended() -> None:
    async def test() -> None:
        async with listening() as (port, count):
            for sent in (HEAD, HEAD, b"broken\r\n\r\n"):
                assert (await answered(port, sent)).startswith(b"HTTP/1.1 ")
            _, left = await asyncio.open_connection("127.0.0.1", port)  # a client that leaves at once
            left.close()
            await asyncio.sleep(0.01)
            assert count() == 0

    asyncio.run(test())


def test_a_connection_without_a_request_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_S", 0.05)

    async def test() -> None:
        async with listening() as (port, _):
            assert await answered(port, b"") == b""
            assert await answered(port, HEAD[:20]) == b""
            kept = HEAD.replace(b"close", b"keep-alive")
            assert (await answered(port, kept, HEAD[:20])).endswith(b'{"status":"ok"}')
            assert b"200 OK" in await answered(port, HEAD)

    asyncio.run(test())
