"""One HTTP request to a server that may be hostile: no redirects, no proxy of the environment, limited time and size.

Python's `http.client` reads no environment variable, no .netrc and no compressed reply. What it lacks are limits of
the whole exchange: its time limit starts anew with each byte.
"""

import json
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from io import BufferedReader, RawIOBase
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from jmedllm.errors import InputError
from jmedllm.output import redact

REPLY_MB = 16
"""Default limit of the size of a reply, in MiB: some million tokens of text."""

_BLOCK = 1 << 16
_TIME_TO_CONNECT_S = 30.0


class UnreachableError(Exception):
    """There is no connection to the server; the text says why."""


class NoReplyError(Exception):
    """The server has not begun to reply in time."""


class BrokenReplyError(Exception):
    """The connection broke in the middle of the reply, or the reply is not HTTP."""


class RefusedReplyError(InputError):
    """The server redirects, compresses its reply, or breaks the limits of a request."""


class RedirectError(RefusedReplyError):
    """The server redirects.

    Attributes:
        location: where to; empty if it does not say.
    """

    def __init__(self, message: str, location: str) -> None:
        super().__init__(message)
        self.location = location


TEMPORARY = (UnreachableError, NoReplyError, BrokenReplyError)
"""Errors after which the same request may succeed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one request.

    Attributes:
        seconds: time from the connection to the last byte of the reply.
        reply_mb: size of the reply with its headers, in MiB.
        idle_s: time without a byte; None for no limit of its own.
    """

    seconds: float
    reply_mb: int = REPLY_MB
    idle_s: float | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply whose headers have arrived.

    Attributes:
        server: address of the server, for messages.
        status: HTTP status.
        reason: its words.
        headers: the headers, with names in lower case.
    """

    server: str
    status: int
    reason: str
    headers: Mapping[str, str]
    _response: HTTPResponse

    def read(self) -> bytes:
        """Return the body.

        Raises:
            RefusedReplyError: it is larger or takes longer than the limits.
            BrokenReplyError: it ends too early.
        """
        return b"".join(self.blocks())

    def blocks(self) -> Iterator[bytes]:
        """Yield the body in blocks; see `read` for errors."""
        with _errors_of(self.server):
            while block := self._response.read(_BLOCK):
                yield block
            if self._response.length:
                raise BrokenReplyError(f"truncated, {self._response.length:,} bytes are missing")

    def lines(self) -> Iterator[bytes]:
        """Yield the lines of the body as they arrive; see `read` for errors."""
        with _errors_of(self.server):
            yield from self._response


@contextmanager
def ask(
    url: str,
    body: bytes | None,
    headers: Mapping[str, str],
    limits: Limits,
    *,
    proxy: str | None = None,
    method: str | None = None,
) -> Iterator[Reply]:
    """Send a request, and close the connection when the block ends.

    Args:
        url: the whole address.
        body: body of a POST; None for GET.
        headers: names and values of headers.
        limits: time and size of the exchange.
        proxy: address of a proxy; None to connect to the server itself.
        method: method of the request, if it is neither.

    Raises:
        RefusedReplyError: the server redirects, compresses its reply, or breaks the limits.
        UnreachableError: there is no connection.
        NoReplyError: the server has not begun to reply in time.
        BrokenReplyError: the reply is not HTTP.
    """
    address = urlsplit(url)
    server = f"server {address.scheme}://{address.netloc}"
    target = f"{address.path or '/'}{'?' * bool(address.query)}{address.query}"
    began = time.monotonic()
    connection = _connected(address, proxy, min(limits.seconds, _TIME_TO_CONNECT_S))
    if proxy is not None and address.scheme == "http":
        target, headers = url, {**headers, **_authorization(urlsplit(proxy))}
    try:
        limited = _LimitedSocket(server, connection.sock, began + limits.seconds, limits)
        connection.sock = limited
        with _errors_of(server):
            connection.request(method or ("GET" if body is None else "POST"), target, body, {**_ASKED, **headers})
            response = connection.getresponse()
        _require_plain(server, response)
        found = {name.lower(): value for name, value in response.getheaders()}
        yield Reply(server, response.status, redact(response.reason), found, response)
    finally:
        connection.close()


_ASKED = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "jmedllm"}


def _require_plain(server: str, response: HTTPResponse) -> None:
    if 300 <= response.status < 400:
        location = response.headers.get("Location", "")
        to = redact(location)[:200] or "nowhere"
        raise RedirectError(
            f"{server}: redirects to {to}; redirects are not followed: give the address that answers itself", location
        )
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RefusedReplyError(
            f"{server}: compresses its reply ({encoding[:40]}), although it was asked not to; switch that off"
        )


def clean_json(server: str, body: bytes) -> bytes:
    """Return a JSON text in which no string has a known key or half a surrogate, however the text spells them.

    Raises:
        ValueError: it is not JSON.
        RefusedReplyError: it is nested too deeply.
    """
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False)
    except RecursionError:
        raise RefusedReplyError(f"{server}: its reply is nested too deeply; is this a model's server?") from None
    clean = redact(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    return body if clean == text else clean.encode()


def parse_json(server: str, body: bytes) -> Any:
    """Return the values of a JSON text; see `clean_json`."""
    return json.loads(clean_json(server, body))


def _connected(address: SplitResult, proxy: str | None, seconds: float) -> HTTPConnection:
    through = urlsplit(proxy) if proxy is not None else address
    host, port = through.hostname or "", through.port
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    options: dict[str, Any] = {"context": _tls()} if address.scheme == "https" else {}
    if proxy is not None:
        port = port or 80
    connection = kind(host, port, timeout=seconds, **options)
    if proxy is not None and address.scheme == "https":
        connection.set_tunnel(address.hostname or "", address.port or 443, _authorization(through))
    try:
        connection.connect()
    except (OSError, HTTPException, ValueError) as error:
        connection.close()
        raise UnreachableError(redact(str(error)) or type(error).__name__) from error
    return connection


@cache
def _tls() -> ssl.SSLContext:
    """Return the system's authorities; SSL_CERT_FILE names others, such as a hospital's own."""
    return ssl.create_default_context()


def _authorization(proxy: SplitResult) -> dict[str, str]:
    user, at, _ = proxy.netloc.rpartition("@")
    return {"Proxy-Authorization": f"Basic {basic_credentials(user)}"} if at else {}


def basic_credentials(user: str) -> str:
    """Return NAME:PASSWORD, quoted as in an address, as HTTP sends it."""
    return b64encode(unquote(user).encode()).decode()


class _LimitedSocket:
    """A connected socket with a time at which everything ends, and a number of bytes that may arrive."""

    def __init__(self, server: str, sock: Any, deadline: float, limits: Limits) -> None:
        self._server, self._sock, self._deadline, self._limits = server, sock, deadline, limits

    def sendall(self, data: Any) -> None:
        self._sock.settimeout(max(self._deadline - time.monotonic(), 0.001))
        self._sock.sendall(data)

    def makefile(self, mode: str) -> BufferedReader:
        raw = self._sock.makefile(mode, buffering=0)
        return BufferedReader(_LimitedReader(self._server, self._sock, raw, self._deadline, self._limits))

    def close(self) -> None:
        self._sock.close()


class _LimitedReader(RawIOBase):
    """Reads a reply within its limits, however slowly or endlessly it arrives."""

    def __init__(self, server: str, sock: Any, raw: Any, deadline: float, limits: Limits) -> None:
        self._server, self._sock, self._raw, self._deadline, self._limits = server, sock, raw, deadline, limits
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._sock.settimeout(left if self._limits.idle_s is None else min(left, self._limits.idle_s))
            count: int = self._raw.readinto(buffer)
        except TimeoutError:
            if time.monotonic() < self._deadline:
                raise BrokenReplyError(f"nothing came for {self._limits.idle_s:g} seconds") from None
            if not self._received:
                raise NoReplyError(f"no reply within {self._limits.seconds:g} seconds") from None
            raise RefusedReplyError(
                f"{self._server}: its reply has not ended after {self._limits.seconds:g} seconds; allow more with "
                "--timeout if it is only slow"
            ) from None
        self._received += count
        if self._received > self._limits.reply_mb << 20:
            raise RefusedReplyError(
                f"{self._server}: its reply is larger than {self._limits.reply_mb} MiB; is this a model's server?"
            )
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


@contextmanager
def _errors_of(server: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise NoReplyError("the request could not be sent in time") from None
    except (OSError, HTTPException, ValueError) as error:
        raise BrokenReplyError(redact(str(error)) or type(error).__name__) from error
