"""A model on an OpenAI-compatible server, with concurrent requests."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from threading import Event
from typing import Any, TypeVar

from jmedllm.errors import InputError, not_installed
from jmedllm.files import to_json
from jmedllm.models.backends.base import Completion, GenerationConfig, Request, Response
from jmedllm.models.backends.openai.replies import is_too_long, new_tokens_of, reasoning_of, text_of, top_tokens
from jmedllm.models.backends.top_logprobs import from_listed
from jmedllm.models.chat import CLOCK, IMAGE, Message
from jmedllm.models.pictures import data_url
from jmedllm.models.thoughts import Thought, leaves_thought_open, thoughts_of_template

KEYS = ("JMEDLLM_API_KEY", "OPENAI_API_KEY")
"""Environment variables that may contain the API key, in this order."""

RETRIES, TIMEOUT_S = 8, 120.0
"""After 429, 5xx, time-outs, broken connections and unreadable responses a request is sent again with growing waits;
the server's own Retry-After is respected. The time limit is for one attempt."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 8.0
"""Waits before a request is sent again after an unreadable response. The openai package waits as long after
failures, but does not count unreadable responses as failures."""

CHECKS, CHECK_TIMEOUT_S = 3, 5.0
"""Attempts to connect before the first request, and the time limit for each. They are fewer than the retries of a
request, so that a mistyped address is reported soon."""

NOBODY_THERE = {"ConnectError", "ConnectTimeout", "UnsupportedProtocol"}
"""Errors of httpx, by name: its package is called httpx2 under some versions of openai."""

TOP_CHAT, TOP_TEXT = 20, 5
"""Number of most likely tokens to request; some servers refuse more."""

REFUSALS = (400, 413, 422)
"""Status codes with which a server refuses one invalid request and no others."""

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError)
"""Exceptions raised by reading a response that is not JSON or not the expected JSON."""

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class OpenAIServerModel:
    """A model on a server.

    Attributes:
        client: `openai.OpenAI`.
        chat: whether prompts are chat messages, to which the server applies the model's template.
        concurrency: maximum number of concurrent requests.
        met: set after the first contact; from then on the server may be unreachable for as long as a restart takes.
    """

    name: str
    client: Any
    chat: bool
    concurrency: int = 8
    met: Event = field(default_factory=Event, compare=False)

    def chat_text(self, messages: list[Message]) -> str:
        """Return the messages as JSON, because the server applies the template."""
        return to_json(messages)

    def answer(
        self, requests: Sequence[Request], generation_config: GenerationConfig
    ) -> Iterator[tuple[int, Response]]:
        """Yield responses as they arrive; see `InferenceModel`. If one request fails for good, those in flight are
        still yielded.

        A prompt that the server finds too long is a `Failure`. So is one that it refuses for another reason, if
        `generation_config` skips invalid prompts.

        Raises:
            InputError: the requests have choices, which no server scores; the server cannot be reached; or a request
                fails for good.
        """
        if any(request.choices for request in requests):
            raise InputError(
                "a server returns no log-probabilities of whole choices; ask for letters (--answer-as letter), or "
                "leave scorer likelihood out"
            )
        self._meet()
        template = self._template() if self.chat and any(request.generate for request in requests) else None
        waiting = iter(enumerate(requests))
        running: dict[Future[Response], int] = {}
        failure: BaseException | None = None
        with ThreadPoolExecutor(self.concurrency) as pool:
            while True:
                while failure is None and len(running) < self.concurrency and (each := next(waiting, None)):
                    running[pool.submit(self._ask, each[1], generation_config, template)] = each[0]
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
            f"server {self.client.base_url}: cannot be reached: {absence}; start it or correct its address"
        ) from absence

    def reads_date(self) -> bool:
        """Return whether the server's template writes the date into the prompts, if the server shows its template."""
        return self.chat and CLOCK in (self._template() or "")

    def _template(self) -> str | None:
        """Return the chat template that llama.cpp's server reports; None if a server reports none."""
        from openai import OpenAIError

        client = self.client.with_options(max_retries=0, timeout=CHECK_TIMEOUT_S)
        root = str(self.client.base_url).rstrip("/").removesuffix("/v1")
        try:
            shown = client.get(f"{root}/props", cast_to=object)
        except (OpenAIError, *UNREADABLE):
            return None
        template = shown.get("chat_template") if isinstance(shown, dict) else None
        return template if isinstance(template, str) else None

    def _ask(self, request: Request, generation_config: GenerationConfig, template: str | None) -> Response:
        from openai import APIConnectionError, APIStatusError, OpenAIError

        began = time.monotonic()
        try:
            write, read = (
                partial(self._write, request, generation_config, template),
                partial(self._read_labels, request),
            )
            completion = _until_readable(write) if request.generate else None
            log_probs = _until_readable(read) if request.labels else None
        except APIStatusError as error:
            if is_too_long(error.status_code, _said(error), error.code):
                return Response(failure="too long")
            if generation_config.skip_invalid and error.status_code in REFUSALS:
                return Response(failure="rejected")
            way_out = "; count such items as no answer with --skip-invalid" * (error.status_code in REFUSALS)
            way_out += ", or ask without pictures (--no-images)" * bool(way_out and request.images)
            raise InputError(
                f"question {request.id}: the server answers {error.status_code}: {_reason(error)}{way_out}"
            ) from error
        except APIConnectionError as error:
            raise InputError(
                f"server {self.client.base_url}: cannot be reached: {error.__cause__ or error}; is it running? "
                "The responses so far are kept"
            ) from error
        except (OpenAIError, *UNREADABLE) as error:
            raise InputError(
                f"question {request.id}: the server's response cannot be read: {type(error).__name__}: {error}; "
                "is that the right address? The responses so far are kept"
            ) from error
        return Response(completion, log_probs, seconds=time.monotonic() - began)

    def _write(self, request: Request, generation_config: GenerationConfig, template: str | None) -> Completion:
        limit = {"max_tokens": generation_config.max_new_tokens, "temperature": 0.0}
        if not self.chat:
            reply = self.client.completions.create(model=self.name, prompt=request.text, **limit)
            choice = reply.choices[0]
            return Completion(
                str(choice.text),
                request.text + choice.text,
                finish_reason=choice.finish_reason,
                new_tokens=new_tokens_of(reply),
                thought_open=leaves_thought_open(request.text),
            )
        messages = _messages(request)
        reply = self.client.chat.completions.create(model=self.name, messages=messages, **limit)
        choice = reply.choices[0]
        message, thoughts = choice.message.to_dict(warnings=False), thoughts_of_template(template)
        text, reasoning = text_of(message), reasoning_of(message)
        return Completion(
            text,
            request.prompt + text,
            finish_reason=choice.finish_reason,
            new_tokens=new_tokens_of(reply),
            # A thought that the server returns separately is not in the text, whoever opened it.
            thought_open=False if reasoning else _opens_thought(template, json.loads(request.prompt), thoughts),
            thoughts=thoughts,
            reasoning=reasoning,
        )

    def _read_labels(self, request: Request) -> tuple[float, ...] | None:
        top = self._top_tokens(request)
        if not top:
            raise InputError(
                f"server {self.client.base_url} returns no probabilities; use another scorer than likelihood"
            )
        # The spellings of `encoding.label_tokens`, so that a served model and a local one are scored alike.
        return from_listed([[value for token, value in top if token in (name, f" {name}")] for name in request.labels])

    def _top_tokens(self, request: Request) -> list[tuple[str, float]]:
        if self.chat:
            reply = self.client.chat.completions.create(
                model=self.name,
                messages=_messages(request),
                max_tokens=1,
                temperature=0.0,
                logprobs=True,
                top_logprobs=TOP_CHAT,
            )
        else:
            reply = self.client.completions.create(
                model=self.name, prompt=request.text, max_tokens=1, temperature=0.0, logprobs=TOP_TEXT
            )
        whole = reply.to_dict(warnings=False)
        return top_tokens(whole["choices"][0], whole)


def _messages(request: Request) -> list[Message]:
    """Return the messages of a prompt, with each picture as a data URL."""
    messages: list[Message] = json.loads(request.prompt)
    pictures = iter(request.images)
    for message in messages:
        if isinstance(message["content"], list):
            message["content"] = [
                {"type": "image_url", "image_url": {"url": data_url(next(pictures))}}
                if part["type"] == IMAGE
                else part
                for part in message["content"]
            ]
    return messages


def _opens_thought(template: str | None, messages: list[Message], thoughts: Sequence[Thought]) -> bool | None:
    """Return whether the server's template opens a thought for these messages; None if unknown."""
    if template is None:
        return None
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered = render_jinja_template([messages], chat_template=template, add_generation_prompt=True)
    except (TemplateError, ValueError, LookupError, TypeError, AttributeError):
        return None  # it needs variables that only the server has
    return leaves_thought_open(rendered[0][0], thoughts)


def _absence(client: Any) -> BaseException | None:
    """Return why the server cannot be reached; None if it can, even if it is slow, cuts the connection or returns
    404."""
    from openai import OpenAIError

    try:
        client.models.with_raw_response.list()
    except OpenAIError as error:
        return error.__cause__ if type(error.__cause__).__name__ in NOBODY_THERE else None
    return None


def _until_readable(ask: Callable[[], Answer]) -> Answer:
    """Call `ask`, and retry after unreadable responses, such as a proxy's error page, as after a 5xx."""
    for attempt in range(RETRIES):
        try:
            return ask()
        except UNREADABLE:
            time.sleep(min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S))
    return ask()


def _said(error: Any) -> str:
    """Return the server's message, or its whole response if the format is not OpenAI's, as with TGI."""
    bare = str(error.message) == f"Error code: {error.status_code}"
    return f"{error.message} - {error.response.text}" if bare else str(error.message)


def _reason(error: Any) -> str:
    return _said(error).splitlines()[0][:200]


def connect(
    url: str, name: str, *, chat: bool, concurrency: int = 8, timeout_s: float = TIMEOUT_S
) -> OpenAIServerModel:
    """Connect to a served model; no request is sent.

    Args:
        url: base URL of the server's API, such as http://127.0.0.1:8000/v1.
        name: name of the model on the server.
        chat: see `OpenAIServerModel`.
        concurrency: maximum number of concurrent requests.
        timeout_s: time limit of one attempt in seconds.

    Raises:
        InputError: no key is set, or the openai package is not installed.
    """
    try:
        from openai import OpenAI
    except ImportError:
        raise not_installed("backend openai", "openai") from None
    key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)
    if key is None:
        raise InputError(f"no key for {url}: set {KEYS[0]} (any text, if the server needs none)")
    client = OpenAI(base_url=url, api_key=key, timeout=timeout_s, max_retries=RETRIES)
    return OpenAIServerModel(name, client, chat, concurrency)
