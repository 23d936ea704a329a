"""Limits of a server: how large, how long, how many at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

MOST_BODY = 4 * 2**20
"""Largest body of a request, in bytes."""

BODY_S = 30.0
"""Time limit for the body of a request, in seconds."""

HEAD_S = 30.0
"""Time limit for the head of a request, in seconds."""

RETRY_S = 5
"""Seconds after which a client should ask again if the queue is full."""

GRACE_S = 30.0
"""Time that running answers get to end when the server is stopped, in seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that the command line sets.

    Attributes:
        queue: number of requests that wait for a slot.
        answer_s: time limit of an answer, with its time in the queue, in seconds.
    """

    queue: int = 64
    answer_s: float = 600.0


class QueueFull(Exception):  # noqa: N818 - a state rather than a fault
    """As many requests wait as are allowed."""


class Slots:
    """Lets as many requests at a time compute as the model has slots; the others wait in order.

    Attributes:
        waiting: number of requests that wait.
        busy: number of requests that compute.
    """

    def __init__(self, slots: int, queue: int) -> None:
        self.waiting, self.busy, self.queue = 0, 0, queue
        self._free = asyncio.Semaphore(slots)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and keep it during the block.

        Raises:
            QueueFull: too many requests wait already.
        """
        if self._free.locked() and self.waiting >= self.queue:
            raise QueueFull(f"all slots are busy and {self.waiting} requests wait, which is the limit; retry later")
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
            self._free.release()
