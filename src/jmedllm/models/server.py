"""A model behind an OpenAI-compatible server, asked by several requests at once."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import Any, TypeVar

from jmedllm.errors import InputError, not_installed
from jmedllm.files import to_json
from jmedllm.models import Completion, Request, Response, Writing
from jmedllm.models.labels import from_listed

KEYS = ("JMEDLLM_API_KEY", "OPENAI_API_KEY")
"""Environment variables in which a key is looked for, in this order."""

RETRIES, TIMEOUT_S = 8, 120.0
"""After 429, 5xx, time-outs, broken connections and unreadable answers a request is sent again, later each time;
the server's own Retry-After is kept to. The limit is for one attempt."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
"""Waits before a request is sent again whose answer could not be read; the openai package waits as long after what
it takes for failures, of which an unreadable answer is none."""

CHECKS, CHECK_TIMEOUT_S = 3, 5.0
"""Attempts to connect at all, and the limit for each, before anything is asked: who mistyped the address should
not wait for what a server needs to start again."""

NOBODY_THERE = {"ConnectError", "ConnectTimeout", "UnsupportedProtocol"}
"""Errors of httpx; by name, as its package is called httpx2 under some versions of openai."""

TOP_CHAT, TOP_TEXT = 20, 5
"""Most likely tokens that a server is asked for; more is refused by some."""

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError)
"""What reading an answer raises that is no JSON, or not the JSON that was asked for."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class ServerModel:
    """A served model.

    Attributes:
        client: `openai.OpenAI`.
        chat: whether questions go out as chat turns, to which the server applies the model's template.
        concurrency: most requests at a time.
        met: set once the server was there; from then on it may be away for as long as a new start takes.
    """

    name: str
    client: Any
    chat: bool
    concurrency: int = 8
    met: Event = field(default_factory=Event, compare=False)

    def chat_text(self, messages: list[dict[str, str]]) -> str:
        """The turns themselves: the template is the server's."""
        return to_json(messages)

    def answer(self, requests: Sequence[Request], writing: Writing) -> Iterator[tuple[int, Response]]:
        """Responses as they come; see `Model`. When one fails for good, those under way are still handed out.

        Raises:
            InputError: choices' texts are to be scored, which no server does; nobody is there; or a request fails
                for good.
        """
        if any(request.choices for request in requests):
            raise InputError(
                "a server gives no likelihood of whole choices; ask for letters (--answer-as letter), or leave "
                "track likelihood out"
            )
        self._meet()
        waiting = iter(enumerate(requests))
        running: dict[Future[Response], int] = {}
        failure: BaseException | None = None
        with ThreadPoolExecutor(self.concurrency) as pool:
            while True:
                while failure is None and len(running) < self.concurrency and (each := next(waiting, None)):
                    running[pool.submit(self._ask, each[1], writing)] = each[0]
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    index = running.pop(future)
                    if (error := future.exception()) is None:
                        yield index, future.result()
                    else:
                        failure = failure or error
        if failure is not None:
            raise failure

    def _meet(self) -> None:
        if self.met.is_set():
            return
        client = self.client.with_options(max_retries=0, timeout=CHECK_TIMEOUT_S)
        for attempt in range(CHECKS):
            if (absence := _absence(client)) is None:
                self.met.set()
                return
            if attempt + 1 < CHECKS:
                time.sleep(FIRST_WAIT_S)
        raise InputError(
            f"server {self.client.base_url}: cannot be reached: {absence}; start it or mend its address"
        ) from absence

    def _ask(self, request: Request, writing: Writing) -> Response:
        from openai import APIConnectionError, APIStatusError, OpenAIError

        try:
            completion = _until_readable(lambda: self._write(request, writing)) if request.write else None
            log_probs = _until_readable(lambda: self._read_labels(request)) if request.labels else None
        except APIStatusError as error:
            raise InputError(
                f"question {request.id}: server says {error.status_code}: {_reason(error)}"
            ) from error
        except APIConnectionError as error:
            raise InputError(
                f"server {self.client.base_url}: cannot be reached: {error.__cause__ or error}; is it running? "
                "What was answered so far is kept"
            ) from error
        except (OpenAIError, *UNREADABLE) as error:
            raise InputError(
                f"question {request.id}: the server's answer cannot be read: {type(error).__name__}: {error}; "
                "is that the right address? What was answered so far is kept"
            ) from error
        return Response(completion, log_probs)

    def _write(self, request: Request, writing: Writing) -> Completion:
        limit = {"max_tokens": writing.max_new_tokens, "temperature": 0.0}
        if self.chat:
            reply = self.client.chat.completions.create(
                model=self.name, messages=json.loads(request.prompt), **limit
            ).choices[0]
            text = reply.message.content or ""
        else:
            reply = self.client.completions.create(model=self.name, prompt=request.prompt, **limit).choices[0]
            text = reply.text
        return Completion(str(text), request.prompt + text, truncated=reply.finish_reason == "length")

    def _read_labels(self, request: Request) -> tuple[float, ...] | None:
        top = self._top_tokens(request)
        if not top:
            raise InputError(f"server {self.client.base_url} gives no probabilities; leave track likelihood out")
        # The spellings of `encoding.label_tokens`, so that a model served and a model here are measured alike.
        return from_listed(
            [[value for token, value in top if token in (name, f" {name}")] for name in request.labels]
        )

    def _top_tokens(self, request: Request) -> list[tuple[str, float]]:
        if self.chat:
            reply = self.client.chat.completions.create(
                model=self.name,
                messages=json.loads(request.prompt),
                max_tokens=1,
                temperature=0.0,
                logprobs=True,
                top_logprobs=TOP_CHAT,
            ).choices[0]
            content = reply.logprobs.content if reply.logprobs else None
            return [(each.token, each.logprob) for each in content[0].top_logprobs] if content else []
        reply = self.client.completions.create(
            model=self.name, prompt=request.prompt, max_tokens=1, temperature=0.0, logprobs=TOP_TEXT
        ).choices[0]
        listed = reply.logprobs.top_logprobs if reply.logprobs else None
        return list(listed[0].items()) if listed and listed[0] else []


def _absence(client: Any) -> BaseException | None:
    """Why nobody can be met; None where somebody is there, be it one that is slow, cuts the line or says 404."""
    from openai import OpenAIError

    try:
        client.models.with_raw_response.list()
    except OpenAIError as error:
        return error.__cause__ if type(error.__cause__).__name__ in NOBODY_THERE else None
    return None


def _until_readable(ask: Callable[[], Answer]) -> Answer:
    """What `ask` gives; an unreadable answer, such as a proxy's page, passes as a 5xx does."""
    for attempt in range(RETRIES):
        try:
            return ask()
        except UNREADABLE:
            time.sleep(min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S))
    return ask()


def _reason(error: Any) -> str:
    return str(error.message).splitlines()[0][:200]


def connect(url: str, name: str, *, chat: bool, concurrency: int = 8, timeout_s: float = TIMEOUT_S) -> ServerModel:
    """A served model.

    Args:
        url: where the server's API begins, such as http://127.0.0.1:8000/v1.
        name: what the server calls the model.
        chat: see `ServerModel`.
        concurrency: most requests at a time.
        timeout_s: longest one attempt may take.

    Raises:
        InputError: no key is set, or the openai package is not installed.
    """
    try:
        from openai import OpenAI
    except ImportError:
        raise not_installed("--server", "openai") from None
    key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
    if key is None:
        raise InputError(f"no key for {url}: set {KEYS[0]} (any text, where the server wants none)")
    client = OpenAI(base_url=url, api_key=key, timeout=timeout_s, max_retries=RETRIES)
    return ServerModel(name, client, chat, concurrency)
