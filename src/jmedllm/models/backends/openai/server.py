"""A model on an OpenAI-compatible server, with concurrent requests."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from jmedllm.errors import InputError, not_installed
from jmedllm.files import to_json
from jmedllm.models.backends.base import GenerationConfig, Request, Response, ServerSettings
from jmedllm.models.backends.openai.contact import contact
from jmedllm.models.backends.openai.exchange import REFUSALS, Exchange
from jmedllm.models.backends.openai.replies import is_too_long, reason_of, said_by
from jmedllm.models.backends.openai.throttle import UNREADABLE, Throttle, answered, refusal
from jmedllm.models.backends.openai.transport import LimitedTransport
from jmedllm.models.chat import CLOCK, Message
from jmedllm.named_server import ClientOptions, announce, parse_server
from jmedllm.progress import notice

CHECKS, CHECK_TIMEOUT_S, CHECK_WAIT_S = 3, 5.0, 0.5
"""Attempts to connect before the first request, the time limit for each and the wait between them. They are fewer
than the retries of a request, so that a mistyped address is reported soon."""

NOBODY_THERE = {"ConnectError", "ConnectTimeout", "UnsupportedProtocol"}
"""Errors of httpx, by name: its package is called httpx2 under some versions of openai."""


@dataclass(frozen=True)
class OpenAIServerModel:
    """A model on a server.

    Attributes:
        client: `openai.OpenAI` without retries.
        chat: whether prompts are chat messages, to which the server applies the model's template.
        concurrency: maximum number of concurrent requests.
        settings: settings of every request to the server.
        options: limits of each request.
        met: set after the first contact; from then on the server may be unreachable for as long as a restart takes.
    """

    name: str
    client: Any
    chat: bool
    concurrency: int = 8
    settings: ServerSettings = field(default_factory=ServerSettings)
    options: ClientOptions = field(default_factory=ClientOptions)
    met: Event = field(default_factory=Event, compare=False)

    def chat_text(self, messages: list[Message]) -> str:
        """Return the messages as JSON, because the server applies the template."""
        return to_json(messages)

    def answer(
        self, requests: Sequence[Request], generation_config: GenerationConfig
    ) -> Iterator[tuple[int, Response]]:
        """Yield responses as they arrive; see `InferenceModel`. If one request fails for good, those in flight are
        still yielded.

        The number of concurrent requests adapts to the server, see `Throttle`. A prompt that the server finds too long
        is a `Failure`. So is one that it refuses for another reason, if `generation_config` skips invalid prompts.

        Raises:
            InputError: the requests have choices, which no server scores; the server cannot be reached, or takes no
                setting of these; or a request fails for good.
        """
        if any(request.choices for request in requests):
            raise InputError(
                "a server returns no log-probabilities of whole choices; ask for letters (--answer-as letter), or "
                "leave scorer likelihood out"
            )
        self._meet()
        exchange, throttle = self._exchange(), Throttle(self.concurrency)
        exchange.require(requests, generation_config)
        waiting = iter(enumerate(requests))
        running: dict[Future[Response], int] = {}
        failure: BaseException | None = None
        ignored: Counter[str] = Counter()
        with ThreadPoolExecutor(self.concurrency) as pool:
            while True:
                while failure is None and len(running) < self.concurrency and (each := next(waiting, None)):
                    running[pool.submit(self._ask, exchange, throttle, each[1], generation_config)] = each[0]
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    index = running.pop(future)
                    if (error := future.exception()) is None:
                        response = future.result()
                        ignored.update(exchange.ignored(response.completion, generation_config))
                        yield index, response
                    else:
                        failure = failure or error
        self._report(throttle, ignored, len(requests))
        if failure is not None:
            raise failure

    def _report(self, throttle: Throttle, ignored: Mapping[str, int], asked: int) -> None:
        if throttle.overloads:
            notice(
                f"{self.name}: the server was overloaded {throttle.overloads:,} times (429, 503 or no answer in "
                f"time); {throttle.limit} of at most {throttle.most} concurrent requests at the end"
            )
        for what, count in ignored.items():
            notice(f"{self.name}: {count:,} of {asked:,} replies {what}: the server ignores the setting")

    def _meet(self) -> None:
        if self.met.is_set():
            return
        client = self._checking()
        for attempt in range(CHECKS):
            if (absence := _absence(client)) is None:
                self.met.set()
                return
            if attempt + 1 < CHECKS:
                time.sleep(CHECK_WAIT_S)
        raise InputError(
            f"server {self.client.base_url}: cannot be reached: {absence}; start it or correct its address"
        ) from absence

    def _checking(self) -> Any:
        return self.client.with_options(timeout=CHECK_TIMEOUT_S)

    def _exchange(self) -> Exchange:
        server = contact(self._checking(), self.settings, chat=self.chat)
        return Exchange(self.name, self.client, server, self.settings, self.chat, self.options.timeout_s)

    def reads_date(self) -> bool:
        """Return whether the server's template writes the date into the prompts, if the server shows its template."""
        template = self._exchange().server.template if self.chat else None
        return template is not None and CLOCK in template.source

    def _ask(
        self, exchange: Exchange, throttle: Throttle, request: Request, generation_config: GenerationConfig
    ) -> Response:
        from openai import APIConnectionError, APIStatusError, OpenAIError

        began = time.monotonic()
        try:
            completion = log_probs = None
            if request.generate:
                completion = answered(lambda: exchange.write(request, generation_config), throttle)
            if request.labels:
                log_probs = answered(lambda: exchange.read_labels(request), throttle)
        except APIStatusError as error:
            if is_too_long(error.status_code, said_by(error), error.code):
                return Response(failure="too long")
            exchange.require_known_fields(error)
            if generation_config.skip_invalid and error.status_code in REFUSALS:
                return Response(failure="rejected")
            way_out = "; count such items as no answer with --skip-invalid" * (error.status_code in REFUSALS)
            way_out += ", or ask without pictures (--no-images)" * bool(way_out and request.images)
            raise InputError(
                f"question {request.id}: the server answers {error.status_code}: {reason_of(error)}{way_out}"
            ) from error
        except APIConnectionError as error:
            raise InputError(
                f"server {self.client.base_url}: cannot be reached: {error.__cause__ or error}; is it running? "
                "The responses so far are kept"
            ) from error
        except (OpenAIError, *UNREADABLE) as error:
            kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
            raise InputError(
                f"question {request.id}: the server's response cannot be read: {kind}{error}; "
                "is that the right address? The responses so far are kept"
            ) from error
        return Response(completion, log_probs, seconds=time.monotonic() - began)


def _absence(client: Any) -> BaseException | None:
    """Return why the server cannot be reached; None if it can, even if it is slow, cuts the connection or returns
    404.

    Raises:
        RefusedReplyError: see `http_client.ask`.
    """
    from openai import OpenAIError

    try:
        client.models.with_raw_response.list()
    except OpenAIError as error:
        if (refused := refusal(error)) is not None:
            raise refused from error
        return error.__cause__ if type(error.__cause__).__name__ in NOBODY_THERE else None
    return None


def connect(
    url: str,
    name: str,
    *,
    chat: bool,
    concurrency: int = 8,
    settings: ServerSettings | None = None,
    options: ClientOptions | None = None,
) -> OpenAIServerModel:
    """Connect to a served model; no request is sent.

    Args:
        url: base URL of the server's API, such as http://127.0.0.1:8000/v1.
        name: name of the model on the server.
        chat: see `OpenAIServerModel`.
        concurrency: maximum number of concurrent requests.
        settings: settings of every request to the server.
        options: its key and limits.

    Raises:
        InputError: the address is none, no key is set, or the openai package is not installed.
    """
    try:
        from openai import DefaultHttpxClient, OpenAI
    except ImportError:
        raise not_installed("backend openai", "openai") from None
    url, options = parse_server(url), options or ClientOptions()
    key = options.key()
    if key is None:
        raise InputError(f"no key for {url}: {options.no_key()}")
    announce(url, "questions", options, key)
    transport: Any = LimitedTransport(options.reply_mb, options.proxy)
    http = DefaultHttpxClient(transport=transport, trust_env=False, follow_redirects=False)
    client = OpenAI(base_url=url, api_key=key, max_retries=0, http_client=http)
    return OpenAIServerModel(name, client, chat, concurrency, settings or ServerSettings(), options)
