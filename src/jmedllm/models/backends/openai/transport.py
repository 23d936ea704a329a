"""The HTTP of the openai package, replaced by `http_client`: nothing but the request reaches the server, and no reply
exceeds its limits."""

from importlib import import_module
from typing import Any

from jmedllm.http_client import BrokenReplyError, Limits, NoReplyError, UnreachableError, ask, clean_json
from jmedllm.output import REDACTED, redact
from jmedllm.progress import notice

_SENT = ("authorization", "content-type", "accept")
"""Headers that are sent. The package adds the versions of Python and of the system, and an organization and a project
of the environment, which are nobody's business."""


class LimitedTransport:
    """A transport of httpx; see `http_client.ask`.

    Args:
        reply_mb: limit of the size of a reply, in MiB.
        proxy: address of a proxy.
    """

    def __init__(self, reply_mb: int, proxy: str | None) -> None:
        self._reply_mb, self._proxy = reply_mb, proxy

    def handle_request(self, request: Any) -> Any:
        """Return the reply to a request, without known keys.

        Raises:
            RefusedReplyError: see `http_client.ask`.
            httpx.TransportError: the request may succeed if it is sent again.
        """
        httpx: Any = import_module(type(request).__module__.partition(".")[0])  # httpx2 under some versions of openai
        headers = {name: request.headers[name] for name in _SENT if name in request.headers}
        limits = Limits(request.extensions["timeout"]["read"], self._reply_mb)
        body = request.read() if request.method == "POST" else None
        try:
            with ask(str(request.url), body, headers, limits, proxy=self._proxy, method=request.method) as reply:
                content = _cleaned(reply.server, reply.read())
                kept = {name: reply.headers[name] for name in _KEPT if name in reply.headers}
                return httpx.Response(reply.status, headers=kept, content=content, request=request)
        except UnreachableError as error:
            raise httpx.ConnectError(str(error), request=request) from error
        except NoReplyError as error:
            raise httpx.ReadTimeout(str(error), request=request) from error
        except BrokenReplyError as error:
            raise httpx.RemoteProtocolError(str(error), request=request) from error

    def close(self) -> None:
        """Every request has its own connection."""

    def __enter__(self) -> "LimitedTransport":
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _cleaned(server: str, body: bytes) -> bytes:
    """Return a reply without known keys; one that is not JSON is read as text."""
    try:
        clean = clean_json(server, body)
    except ValueError:
        clean = redact(body.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    if (mark := REDACTED.encode()) in clean and mark not in body:
        notice(f"{server}: its reply has the API key, which is left out")
    return clean


_KEPT = ("content-type", "retry-after", "retry-after-ms")
"""Headers of a reply that are read."""
