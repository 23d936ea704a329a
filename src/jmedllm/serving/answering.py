"""Sends an answer, whole or while it is written, and ends the work if the client leaves."""

import asyncio
import json
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from jmedllm.serving.answer import Delta
from jmedllm.serving.fields import BadRequest
from jmedllm.serving.limits import Slots
from jmedllm.serving.log import RequestLog
from jmedllm.serving.metrics import Metrics
from jmedllm.serving.model import Unavailable
from jmedllm.serving.reply import Reply

LEFT = 499
"""Status in the log if the client left before the answer was whole, as nginx writes it."""


class ClientLeft(Exception):  # noqa: N818 - not a fault
    """The client has closed the connection."""


def error_body(message: str, kind: str, field: str | None = None, code: str | None = None) -> dict[str, Any]:
    """Return the body of an error."""
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}


class Answering(Response):
    """The response to a request for an answer.

    Attributes:
        reply: the form of the answer.
        deltas: its parts.
        log: what is logged of the request.
        slots: where the request waits for its turn.
        metrics: where the time to the first part is counted.
        limit_s: time limit, in seconds.
    """

    def __init__(
        self,
        reply: Reply,
        deltas: AsyncGenerator[Delta, None],
        log: RequestLog,
        *,
        slots: Slots,
        metrics: Metrics,
        limit_s: float,
    ) -> None:
        self.reply, self.deltas, self.log = reply, deltas, log
        self.slots, self.metrics, self.limit_s = slots, metrics, limit_s
        self.is_started = False
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer.

        Raises:
            QueueFull: too many requests wait.
            Unavailable: the model failed before the answer began.
            BadRequest: the choices do not fit the context, which is known after a thought only.
        """
        write = self._stream(send) if self.reply.request.stream else self._whole(scope, receive, send)
        try:
            async with asyncio.timeout(self.limit_s):
                await _unless_left(receive, write)
        except ClientLeft:
            self.log.status, self.log.note = LEFT, "the client left"
        except TimeoutError:
            late = f"the answer took longer than {self.limit_s:g} s; ask for fewer tokens"
            await self._fail(Unavailable(late), send)
        except (Unavailable, BadRequest) as error:
            await self._fail(error, send)
        finally:
            self.log.completion = self.reply.usage.completion

    async def _fail(self, error: Unavailable | BadRequest, send: Send) -> None:
        """Report an error as a response, or as the last event of a stream, which then does not look whole."""
        if not self.is_started:
            raise error
        self.log.note = str(error)
        kind = "server_error" if isinstance(error, Unavailable) else "invalid_request_error"
        await send(_event(error_body(str(error), kind), more=False))

    async def _whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._parts()) as parts:
            async for _ in parts:
                pass
        await JSONResponse(self.reply.whole())(scope, receive, send)

    async def _stream(self, send: Send) -> None:
        async with aclosing(self._parts()) as parts:
            async for delta in parts:
                await self._start(send)
                await send(_event(self.reply.chunk(delta)))
        await self._start(send)
        for chunk in self.reply.last_chunks():
            await send(_event(chunk))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def _start(self, send: Send) -> None:
        if self.is_started:
            return
        self.is_started = True
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for chunk in self.reply.first_chunks():
            await send(_event(chunk))

    async def _parts(self) -> AsyncGenerator[Delta, None]:
        is_first = True
        async with self.slots.slot(), aclosing(self.deltas) as deltas:
            async for delta in deltas:
                if is_first:
                    self.metrics.first.observe(self.log.seconds)
                    is_first = False
                self.reply.add(delta)
                yield delta


def _event(value: Any, *, more: bool = True) -> dict[str, Any]:
    """Return a message with one event, in ASCII: some clients end a line at U+2028."""
    body = b"data: " + json.dumps(value).encode() + b"\n\n"
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _unless_left(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do some work, and cancel it when the client leaves.

    Raises:
        ClientLeft: it left before the work was done.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        await working
    finally:
        for each in (working, leaving):
            each.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
