"""A client of a server with chats in OpenAI's form, for the terminal."""

import json
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jmedllm.errors import InputError
from jmedllm.offline import allow

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_THINKING = ("enable_thinking", "thinking")
"""Variables of chat templates that switch the thought on and off."""


@dataclass(frozen=True, slots=True)
class ServedName:
    """What a server says of its model.

    Attributes:
        name: its name in requests.
        has_template: whether it has a chat template.
        thinking: variable of its template that switches the thought on and off, if there is one.
    """

    name: str
    has_template: bool = True
    thinking: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerPart:
    """A part of an answer.

    Attributes:
        text: text of the answer.
        thought: text of the thought before it.
        choices: log-probability of each choice, if the answer is restricted to choices.
        finish_reason: in the last part, `stop` or `length`.
        tokens: in the last part, number of tokens of thought and answer.
    """

    text: str = ""
    thought: str = ""
    choices: Mapping[str, float] | None = None
    finish_reason: str | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ChatClient:
    """A server.

    Attributes:
        url: its address, without a path.
        key: its API key, if it needs one.
    """

    url: str
    key: str | None = None

    def model(self) -> ServedName:
        """Return the model of the server.

        Raises:
            InputError: the server does not answer, refuses the key, or has no model.
        """
        with closing(self._connection()) as connection:
            answer = self._json(self._send(connection, "GET", "/v1/models", None))
        try:
            model = answer["data"][0]
            variables = model.get("template_variables", [])
            thinking = next((name for name in _THINKING if name in variables), None)
            return ServedName(str(model["id"]), model.get("chat_template", "") is not None, thinking)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise InputError(f"server {self.url}: /v1/models has no model; is this a model's server?") from error

    def answer(self, body: Mapping[str, Any]) -> Generator[AnswerPart, None, None]:
        """Yield the parts of an answer. Closing the iterator closes the connection, so that the server stops.

        Args:
            body: body of a request to /v1/chat/completions.

        Raises:
            InputError: the server refuses the request, or ends in the middle.
        """
        streamed = {**body, "stream": True, "stream_options": {"include_usage": True}}
        with closing(self._connection()) as connection:
            response = self._send(connection, "POST", "/v1/chat/completions", streamed)
            for event in self._events(response):
                yield _part(event)

    def _connection(self) -> HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"--server {self.url!r}: give an address such as http://127.0.0.1:8080")
        allow(self.url, "questions")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(parts.hostname, parts.port)

    def _send(self, connection: HTTPConnection, method: str, path: str, body: Any) -> HTTPResponse:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
        except (OSError, HTTPException) as error:
            raise InputError(
                f"server {self.url}: no answer ({error}); start one with: jmedllm deploy serve FILE"
            ) from error
        if response.status != 200:
            raise InputError(f"server {self.url}: {_reason(response)}")
        return response

    def _json(self, response: HTTPResponse) -> Any:
        try:
            return json.loads(response.read())
        except ValueError as error:
            raise InputError(f"server {self.url}: its answer is not JSON; is this a model's server?") from error

    def _events(self, response: HTTPResponse) -> Iterator[dict[str, Any]]:
        try:
            for line in response:
                if not line.startswith(b"data:"):
                    continue
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                event = json.loads(data)
                if "error" in event:
                    raise InputError(f"server {self.url}: {event['error'].get('message', event['error'])}")
                yield event
        except (OSError, HTTPException, ValueError) as error:
            raise InputError(f"server {self.url}: the answer is broken ({error}); ask again") from error
        raise InputError(f"server {self.url}: ended in the middle of the answer; start it again and ask again")


def key_for(url: str, key_file: Path | None) -> str | None:
    """Return the key for a server: of the file, for a server on this machine of this user, or of OPENAI_API_KEY.

    Raises:
        InputError: the file cannot be read.
    """
    from jmedllm.deploy.trust import trusted_list

    own = trusted_list().with_name("key")
    if key_file is None and (urlsplit(url).hostname not in _LOOPBACK or not own.is_file()):
        return os.environ.get("OPENAI_API_KEY")
    file = key_file or own
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--key-file {file}: cannot be read: {error}") from error


def _part(event: Mapping[str, Any]) -> AnswerPart:
    choice = (event.get("choices") or [{}])[0]
    delta = choice.get("delta") or {}
    listed: Sequence[Mapping[str, Any]] = (choice.get("logprobs") or {}).get("content") or ()
    return AnswerPart(
        text=delta.get("content") or "",
        thought=delta.get("reasoning_content") or "",
        choices={each["token"]: each["logprob"] for each in listed[0]["top_logprobs"]} if listed else None,
        finish_reason=choice.get("finish_reason"),
        tokens=(event.get("usage") or {}).get("completion_tokens"),
    )


def _reason(response: HTTPResponse) -> str:
    text = response.read(10_000).decode(errors="replace")
    try:
        message = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = text[:300] or response.reason
    advice = {401: "; give its key with --key-file or OPENAI_API_KEY", 503: "; try again later"}
    return f"{' '.join(str(message).split())}{advice.get(response.status, '')}"
