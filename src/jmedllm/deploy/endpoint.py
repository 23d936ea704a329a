"""JSON over HTTP to a server, without a proxy of the environment."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jmedllm.errors import InputError
from jmedllm.http_client import TEMPORARY, Limits, ask, parse_json
from jmedllm.named_server import ClientOptions
from jmedllm.output import redact

REQUEST_S = 600.0
"""Default time limit of one request, in seconds."""

_VOCABULARY_MB = 256
"""Limit of a reply with the log-probabilities of a whole vocabulary, in MiB."""


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
        options: limits of each request.
    """

    url: str
    key: str | None = None
    options: ClientOptions = field(default_factory=ClientOptions)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a JSON request and return the values of the answer.

        Raises:
            InputError: see `send`; or the answer is not JSON.
        """
        return self._values(path, self._send(path, body, self.options.reply_mb))

    def get(self, path: str) -> Any:
        """Return the values at a path; see `post` for errors."""
        return self._values(path, self._send(path, None, self.options.reply_mb))

    def send(self, path: str, body: Mapping[str, Any] | None) -> bytes:
        """Send a JSON request, or ask for a path, and return the answer's bytes, which may be those of a vocabulary.

        Raises:
            RefusedError: the server refuses the request.
            InputError: it does not answer in time, or its reply is refused, see `http_client.ask`.
        """
        return self._send(path, body, max(self.options.reply_mb, _VOCABULARY_MB))

    def _send(self, path: str, body: Mapping[str, Any] | None, reply_mb: int) -> bytes:
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data, limits = None if body is None else json.dumps(body).encode(), Limits(self._seconds, reply_mb)
        try:
            with ask(f"{self.url}{path}", data, headers, limits, proxy=self.options.proxy) as reply:
                answer = reply.read()
        except TEMPORARY as error:
            raise InputError(f"server {self.url}: no answer from {path} ({error}); is it still running?") from error
        if reply.status != 200:
            text = " ".join(redact(answer[:10_000].decode(errors="replace"))[:300].split())
            raise RefusedError(f"server {self.url}: {path} returned {reply.status}: {text}", reply.status)
        return answer

    @property
    def _seconds(self) -> float:
        return REQUEST_S if self.options.timeout_s is None else self.options.timeout_s

    def _values(self, path: str, answer: bytes) -> Any:
        try:
            return parse_json(f"server {self.url}", answer)
        except ValueError as error:
            raise InputError(f"server {self.url}: {path} did not return JSON; check the URL") from error
