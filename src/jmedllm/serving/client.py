"""A client of a server with chats in OpenAI's form, for the terminal."""

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.http_client import TEMPORARY, Limits, Reply, ask, parse_json
from jmedllm.named_server import KEY_ENV, ClientOptions
from jmedllm.offline import is_loopback
from jmedllm.output import keep_secret, redact

_LIST_S, ANSWER_S = 60.0, 3600.0
"""Default time limits of the list of models and of one answer, in seconds."""

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
        options: limits of each request.
    """

    url: str
    key: str | None = None
    options: ClientOptions = field(default_factory=ClientOptions)

    def model(self) -> ServedName:
        """Return the model of the server.

        Raises:
            InputError: the server does not answer, refuses the key, or has no model.
        """
        with self._ask("/v1/models", None, _LIST_S) as reply:
            answer = self._json(reply)
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
        with self._ask("/v1/chat/completions", streamed, ANSWER_S) as reply:
            for event in self._events(reply):
                yield self._part(event)

    @contextmanager
    def _ask(self, path: str, body: Any, seconds: float) -> Iterator[Reply]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        limits = Limits(self.options.timeout_s or seconds, self.options.reply_mb)
        data = None if body is None else json.dumps(body).encode()
        has_begun = False
        try:
            with ask(f"{self.url}{path}", data, headers, limits, proxy=self.options.proxy) as reply:
                has_begun = True
                if reply.status != 200:
                    raise InputError(f"server {self.url}: {_reason(reply)}")
                yield reply
        except TEMPORARY as error:
            if has_begun:
                raise InputError(f"server {self.url}: the answer is broken ({error}); ask again") from error
            raise InputError(
                f"server {self.url}: no answer ({error}); start one with: jmedllm deploy serve FILE"
            ) from error

    def _json(self, reply: Reply) -> Any:
        try:
            return parse_json(f"server {self.url}", reply.read())
        except ValueError as error:
            raise InputError(f"server {self.url}: its answer is not JSON; is this a model's server?") from error

    def _events(self, reply: Reply) -> Iterator[Any]:
        for line in reply.lines():
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            try:
                event = parse_json(f"server {self.url}", data)
            except ValueError as error:
                raise InputError(f"server {self.url}: the answer is broken ({error}); ask again") from error
            if isinstance(event, dict) and (problem := event.get("error")):
                message = problem.get("message", problem) if isinstance(problem, dict) else problem
                raise InputError(f"server {self.url}: {str(message)[:300]}")
            yield event
        raise InputError(f"server {self.url}: ended in the middle of the answer; start it again and ask again")

    def _part(self, event: Any) -> AnswerPart:
        try:
            return part_of(event)
        except (TypeError, LookupError, AttributeError, ValueError) as error:
            raise InputError(
                f"server {self.url}: the answer has another form than OpenAI's ({type(error).__name__}: {error}); is "
                "this a model's server?"
            ) from error


def key_for(url: str, key_file: Path | None, options: ClientOptions) -> str | None:
    """Return the key for a server: of the file, for a server on this machine of this user, or of the environment.

    Raises:
        InputError: the file cannot be read.
    """
    from jmedllm.deploy.trust import trusted_list

    own = trusted_list().with_name("key")
    if key_file is None and (not is_loopback(url) or not own.is_file() or options.key_env != KEY_ENV):
        return options.key()
    file = key_file or own
    try:
        key = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--key-file {file}: cannot be read: {error}") from error
    keep_secret(key)
    return key


def part_of(event: Mapping[str, Any]) -> AnswerPart:
    """Return the part of an answer in an event; see `ChatClient.answer` for events in another form."""
    choice = (event.get("choices") or [{}])[0]
    delta = choice.get("delta") or {}
    listed: Sequence[Mapping[str, Any]] = (choice.get("logprobs") or {}).get("content") or ()
    shares = listed[0]["top_logprobs"] if listed else ()
    return AnswerPart(
        text=_text(delta.get("content")),
        thought=_text(delta.get("reasoning_content")),
        choices={_text(each["token"]): float(each["logprob"]) for each in shares} if listed else None,
        finish_reason=_text(choice.get("finish_reason")) or None,
        tokens=(event.get("usage") or {}).get("completion_tokens"),
    )


def _text(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{str(value)[:60]} is not a text")
    return value or ""


def _reason(reply: Reply) -> str:
    text = redact(reply.read()[:10_000].decode(errors="replace"))
    try:
        message = json.loads(text)["error"]["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        message = text[:300] or reply.reason
    advice = {401: f"; give its key with --key-file or {KEY_ENV}", 503: "; try again later"}
    return f"{' '.join(redact(str(message)[:300]).split())}{advice.get(reply.status, '')}"
