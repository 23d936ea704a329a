"""JSON over HTTP to a server, without a proxy."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from jmedllm.errors import InputError

REQUEST_S = 600.0
"""Time limit of one request, in seconds."""

_OPENER = build_opener(ProxyHandler({}))  # a proxy of the environment must not see requests to this machine


class RefusedError(InputError):
    """The server refuses a request.

    Attributes:
        status: its HTTP status.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server answers.

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
        return self._values(path, self.send(path, body))

    def get(self, path: str) -> Any:
        """Return the values at a path; see `post` for errors."""
        return self._values(path, self.send(path, None))

    def send(self, path: str, body: Mapping[str, Any] | None) -> bytes:
        """Send a JSON request, or ask for a path, and return the answer's bytes.

        Raises:
            RefusedError: the server refuses the request.
            InputError: it does not answer in time.
        """
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = Request(f"{self.url}{path}", None if body is None else json.dumps(body).encode(), headers)
        try:
            with _OPENER.open(request, timeout=REQUEST_S) as answer:
                return bytes(answer.read())
        except HTTPError as error:
            text = error.read().decode(errors="replace")[:300]
            raise RefusedError(f"server {self.url}: {path} returned {error.code}: {text}", error.code) from error
        except (URLError, TimeoutError, ConnectionError) as error:
            raise InputError(f"server {self.url}: no answer from {path} ({error}); is it still running?") from error

    def _values(self, path: str, answer: bytes) -> Any:
        try:
            return json.loads(answer)
        except ValueError as error:
            raise InputError(f"server {self.url}: {path} did not return JSON; check the URL") from error
