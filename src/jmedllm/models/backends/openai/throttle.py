"""The number of concurrent requests to a server, adapted to what it can take, and requests that are sent again."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isnan
from threading import Condition
from typing import Any, TypeVar

from jmedllm.errors import InputError
from jmedllm.http_client import RefusedReplyError

RETRIES = 8
"""Attempts after the first: after an overload, 5xx, broken connections and unreadable responses."""

TIMEOUTS = 4
"""Attempts without a reply in time, after which nobody is there. A server that loads its model may take some."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
"""Waits before a request is sent again, which double; a longer Retry-After of the server is respected."""

LONGEST_RETRY_AFTER_S = 600.0
"""A server that asks for longer waits, all those of a request together, is not waited for: the evaluation can be
resumed."""

OVERLOADED = (408, 429, 503, 504, 529)
"""Status codes of a server that has too much to do."""

TEMPORARY = (*OVERLOADED, 409)
"""Status codes below 500 after which the same request may succeed, and those of an overload."""

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError)
"""Exceptions raised by reading a response that is not JSON or not the expected JSON."""

Answer = TypeVar("Answer")


class Throttle:
    """Limits the requests in flight: the limit is halved by an overload and grows by one per round of successes.

    This is the additive increase and multiplicative decrease of TCP (Chiu and Jain, 1989).

    Args:
        most: largest limit, with which it starts.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.overloads = 0
        self._limit = float(most)
        self._in_flight = 0
        self._halved = self._resume = 0.0
        self._changed = Condition()

    @property
    def limit(self) -> int:
        """Return the largest number of requests in flight."""
        return int(self._limit)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait until one more request may be sent; it counts as in flight until the block ends."""
        with self._changed:
            while (pause := self._resume - time.monotonic()) > 0 or self._in_flight >= self.limit:
                self._changed.wait(max(pause, 0.0) or None)
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def succeeded(self) -> None:
        """Raise the limit after a success."""
        with self._changed:
            self._limit = min(float(self.most), self._limit + 1 / self._limit)

    def overloaded(self, sent: float, pause_s: float) -> None:
        """Halve the limit, and send nothing for a while.

        Args:
            sent: time at which the request was sent. Requests that were sent before the limit was last halved say
                nothing about the new one.
            pause_s: seconds for which the server asked, or 0.
        """
        with self._changed:
            now = time.monotonic()
            self.overloads += 1
            self._resume = max(self._resume, now + pause_s)
            if sent > self._halved:
                self._limit, self._halved = max(1.0, self._limit / 2), now


def answered(ask: Callable[[], Answer], throttle: Throttle) -> Answer:
    """Return what `ask` returns, in a slot of the throttle; call it again after failures that may be temporary.

    Raises:
        InputError: the server asks for a long pause, or its reply is refused, see `http_client.ask`.
        Exception: that of the last attempt.
    """
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    paused, timeouts = 0.0, 0
    for attempt in range(RETRIES + 1):
        sent = time.monotonic()
        try:
            with throttle.slot():
                sent = time.monotonic()
                answer = ask()
        except (RefusedReplyError, APIConnectionError, APIStatusError, *UNREADABLE) as error:
            if (refused := refusal(error)) is not None:
                raise InputError(f"{refused}. The responses so far are kept") from error
            status = error.status_code if isinstance(error, APIStatusError) else None
            timeouts += isinstance(error, APITimeoutError)
            if (
                attempt == RETRIES
                or timeouts == TIMEOUTS
                or (status is not None and status < 500 and status not in TEMPORARY)
            ):
                raise
            asked = retry_after(error.response.headers) if isinstance(error, APIStatusError) else None
            paused += asked or 0.0
            if asked is not None and paused > LONGEST_RETRY_AFTER_S:
                raise InputError(
                    f"the server answers {status} and asks for a pause of {asked:,.0f} seconds; run the same command "
                    "again then. The responses so far are kept"
                ) from error
            if status in OVERLOADED or isinstance(error, APITimeoutError):
                throttle.overloaded(sent, asked or 0.0)
            time.sleep(max(asked or 0.0, min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S)))
        else:
            throttle.succeeded()
            return answer
    raise AssertionError("the last attempt returns or raises")


def refusal(error: BaseException) -> RefusedReplyError | None:
    """Return why a reply was refused, if that is the error. Some versions of openai wrap it."""
    return next((each for each in (error, error.__cause__) if isinstance(each, RefusedReplyError)), None)


def retry_after(headers: Any) -> float | None:
    """Return the seconds for which a server asks to wait; None if it does not, or not in a known form."""
    if milliseconds := headers.get("retry-after-ms"):
        return _seconds(milliseconds, 1000)
    text = headers.get("retry-after")
    if text is None:
        return None
    if (seconds := _seconds(text)) is not None:
        return seconds
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


def _seconds(text: str, parts: int = 1) -> float | None:
    try:
        seconds = float(text) / parts
    except ValueError:
        return None
    return None if isnan(seconds) else max(0.0, seconds)
