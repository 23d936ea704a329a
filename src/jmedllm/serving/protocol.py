"""HTTP/1.1 with a time limit for the head of the first request."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from jmedllm.serving.limits import HEAD_S


class HeadLimitProtocol(H11Protocol):
    """Closes a connection without a whole head of a request after `HEAD_S`."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the time limit."""
        super().connection_made(transport)
        self._limit = self.loop.call_later(HEAD_S, transport.close)

    def data_received(self, data: bytes) -> None:
        """Handle what arrives. A timer would keep the connection and its request in memory, so it ends here."""
        super().data_received(data)
        if self.cycle is not None:
            self._end_limit()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._end_limit()
        super().connection_lost(exc)

    def _end_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
