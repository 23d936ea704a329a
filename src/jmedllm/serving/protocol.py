"""HTTP/1.1 with a time limit for the head of a request."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from jmedllm.serving.limits import HEAD_S


class HeadLimitProtocol(H11Protocol):
    """Closes a connection on which the head of a request takes longer than `HEAD_S`."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the time limit."""
        super().connection_made(transport)
        self._begin_limit()

    def data_received(self, data: bytes) -> None:
        """Handle what arrives. A timer would keep the connection and its request in memory, so it ends here."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._end_limit()
        elif self._limit is None:  # the head of another request has begun
            self._begin_limit()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._end_limit()
        super().connection_lost(exc)

    def _begin_limit(self) -> None:
        self._limit = self.loop.call_later(HEAD_S, self.transport.close)

    def _end_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
