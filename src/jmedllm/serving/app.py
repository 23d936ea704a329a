"""The routes of the server, and what all requests have in common."""

import asyncio
import secrets
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jmedllm.errors import InputError
from jmedllm.files import append_jsonl
from jmedllm.models.chat_text import variables_of
from jmedllm.serving.answer import Usage, answer, prompt_of, render_prompt
from jmedllm.serving.answering import LEFT, Answering, error_body
from jmedllm.serving.fields import (
    TOKENIZE_FIELDS,
    BadRequest,
    GenerationRequest,
    chat_request,
    completion_request,
    messages_of,
    parse_body,
)
from jmedllm.serving.guard import PAGE_HEADERS, SIGN_IN, foreign, is_allowed, sign_in
from jmedllm.serving.limits import BODY_S, MOST_BODY, RETRY_S, Limits, QueueFull, Slots
from jmedllm.serving.log import RequestLog, write_log
from jmedllm.serving.metrics import Histogram, Metrics
from jmedllm.serving.model import ServedModel, Unavailable
from jmedllm.serving.page import chat_page, content_security_policy
from jmedllm.serving.reply import ChatReply, CompletionReply, Reply

OPEN = {("GET", "/"), ("HEAD", "/"), ("GET", "/health"), ("HEAD", "/health")}
"""Requests that need no key; the page asks for it itself."""

_LOG = "jmedllm.log"
"""Key of a request's `RequestLog` in its scope."""


@dataclass
class Service:
    """A model behind routes, and what is counted of its use.

    Attributes:
        model: the model.
        key: see `serving.key`.
        port: port of the server, which is a part of the name of its cookie.
        limits: see `Limits`.
        prompt_log: file for the texts of prompts and answers; None for none.
    """

    model: ServedModel
    key: str
    port: int
    limits: Limits = field(default_factory=Limits)
    prompt_log: Path | None = None
    metrics: Metrics = field(default_factory=Metrics)
    slots: Slots = field(init=False)

    def __post_init__(self) -> None:
        self.slots = Slots(self.model.slots, self.limits.queue)

    async def front_page(self, request: Request) -> Response:
        """Return the chat page; a visit with `?key=KEY` sets the cookie first."""
        if (answered := sign_in(request, self.key, self.port)) is not None:
            return answered
        if not is_allowed(request.headers, self.key, self.port):
            return HTMLResponse(SIGN_IN, status_code=401, headers=PAGE_HEADERS)
        headers = PAGE_HEADERS | {"Content-Security-Policy": content_security_policy()}
        return HTMLResponse(chat_page(), headers=headers)

    async def health(self, request: Request) -> Response:
        """Return that the server runs, and nothing about the model."""
        return JSONResponse({"status": "ok"})

    async def models(self, request: Request) -> Response:
        """Return the served model."""
        template = self.model.format.template
        described = {
            "id": self.model.name,
            "object": "model",
            "created": 0,
            "owned_by": "jmedllm",
            "backend": self.model.backend,
            "max_model_len": self.model.context,
            "slots": self.model.slots,
            "fingerprint": self.model.format.fingerprint,
            "chat_template": template,
            **self.model.format.special,
            "template_variables": sorted(variables_of(template)) if template else [],
        }
        return JSONResponse({"object": "list", "data": [described]})

    async def show_metrics(self, request: Request) -> Response:
        """Return the metrics."""
        gauges = {
            "jmedllm_slots": ("Number of answers that can be written at the same time.", self.model.slots),
            "jmedllm_slots_busy": ("Number of answers that are being written.", self.slots.busy),
            "jmedllm_queue_requests": ("Number of requests that wait for a slot.", self.slots.waiting),
        }
        return PlainTextResponse(self.metrics.text(gauges), media_type="text/plain; version=0.0.4")

    async def tokenize(self, request: Request) -> Response:
        """Return the token ids of a text, or of a conversation as the model gets it."""
        body = parse_body(await _body(request), TOKENIZE_FIELDS)
        self._require_model(body.get("model"))
        if ("prompt" in body) == ("messages" in body):
            raise BadRequest("give either prompt or messages")
        if "messages" in body:
            chat = GenerationRequest(messages=messages_of(body), variables=body.get("chat_template_kwargs", {}))
            ids = list((await render_prompt(self.model, chat)).ids)
        else:
            ids = await self.model.tokenize(body["prompt"], add_special=body.get("add_special_tokens", True))
        return JSONResponse({"tokens": ids, "count": len(ids), "max_model_len": self.model.context})

    async def chat(self, request: Request) -> Response:
        """Answer a conversation."""
        return await self._answer(request, chat_request(await _body(request)), ChatReply)

    async def complete(self, request: Request) -> Response:
        """Continue a prompt."""
        return await self._answer(request, completion_request(await _body(request)), CompletionReply)

    async def _answer(self, request: Request, wanted: GenerationRequest, form: type[Reply]) -> Response:
        self._require_model(wanted.model)
        log: RequestLog = request.scope[_LOG]
        prompt = await prompt_of(self.model, wanted)
        usage = Usage(len(prompt.ids))
        log.prompt = usage.prompt
        reply = form(log.id, self.model.name, wanted, usage)
        log.reply = reply
        deltas = answer(self.model, prompt, wanted, usage)
        limit_s = self.limits.answer_s
        return Answering(reply, deltas, log, slots=self.slots, metrics=self.metrics, limit_s=limit_s)

    def _require_model(self, name: str | None) -> None:
        if name is not None and name != self.model.name:
            raise BadRequest(
                f"model: this server has {self.model.name!r}, not {name[:200]!r}", "model", "model_not_found", 404
            )


async def _body(request: Request) -> bytes:
    """Receive a body.

    Raises:
        BadRequest: it is too large, or takes too long.
    """
    body = bytearray()
    too_large = BadRequest(f"the body is larger than {MOST_BODY / 2**20:.0f} MiB; send less", status=413)
    if int(request.headers.get("content-length", 0)) > MOST_BODY:  # a whole number, or the request is refused before
        raise too_large
    try:
        async with asyncio.timeout(BODY_S), aclosing(request.stream()) as parts:
            async for part in parts:
                body += part
                if len(body) > MOST_BODY:
                    raise too_large
    except TimeoutError:
        raise BadRequest(f"the body did not arrive within {BODY_S:.0f} s", status=408) from None
    return bytes(body)


class Front:
    """What comes before the routes: checks, an identifier, a log line and metrics for each request."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self.app, self.service = app, service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = f"{scope['method']} {scope['path']}" if scope["path"] in ROUTES else "unknown"
        log = RequestLog(f"jmedllm-{secrets.token_hex(8)}", route)
        scope[_LOG] = log

        async def send_logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                log.status = message["status"]
                headers = [(b"x-request-id", log.id.encode()), (b"x-content-type-options", b"nosniff")]
                message = {**message, "headers": [*message["headers"], *headers]}
            await send(message)

        refused = self._refused(Request(scope))
        try:
            await (refused or self.app)(scope, receive, send_logged)
        except ClientDisconnect:
            log.status, log.note = LEFT, "the client left"
        finally:
            self._count(log)

    def _refused(self, request: Request) -> Response | None:
        """Return the response to a request that may not use the server; None if it may."""
        if (reason := foreign(request.headers)) is not None:
            return JSONResponse(error_body(reason, "permission_error"), 403)
        is_open = (request.method, request.scope["path"]) in OPEN
        if not is_open and not is_allowed(request.headers, self.service.key, self.service.port):
            message = "the key is missing or wrong; send the header Authorization: Bearer KEY"
            headers = {"WWW-Authenticate": "Bearer"}
            return JSONResponse(error_body(message, "authentication_error", code="invalid_api_key"), 401, headers)
        return None

    def _count(self, log: RequestLog) -> None:
        metrics = self.service.metrics
        metrics.requests[log.route, log.status] += 1
        metrics.seconds.setdefault(log.route, Histogram()).observe(log.seconds)
        metrics.tokens += {"prompt": log.prompt or 0, "completion": log.completion}
        write_log(log.line())
        if self.service.prompt_log is not None and log.reply is not None:
            try:
                append_jsonl(self.service.prompt_log, [log.reply.record()])
            except InputError as error:  # the answer has arrived
                write_log(f"{log.id} is not in the log of prompts: {error}")


async def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, BadRequest)
    kind = "not_found_error" if error.status == 404 else "invalid_request_error"
    return JSONResponse(error_body(str(error), kind, error.field, error.code), error.status)


async def _unavailable(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body(str(error), "server_error"), 503, {"Retry-After": str(RETRY_S)})


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {404: f"there is no {request.url.path[:100]} here", 405: f"{request.method} is not allowed here"}
    said = message.get(error.status_code, str(error.detail))
    return JSONResponse(error_body(said, "not_found_error"), error.status_code, error.headers)


async def _bug(request: Request, error: Exception) -> Response:
    return JSONResponse(error_body("the server failed; its log has the reason", "server_error"), 500)


ROUTES: dict[str, tuple[str, str]] = {
    "/": ("GET", "front_page"),
    "/health": ("GET", "health"),
    "/metrics": ("GET", "show_metrics"),
    "/tokenize": ("POST", "tokenize"),
    "/v1/models": ("GET", "models"),
    "/v1/chat/completions": ("POST", "chat"),
    "/v1/completions": ("POST", "complete"),
}
"""The method of each route, and the method of `Service` that answers it."""


def create_app(service: Service) -> Starlette:
    """Return the ASGI application of a service."""
    return Starlette(
        routes=[Route(path, getattr(service, name), methods=[method]) for path, (method, name) in ROUTES.items()],
        middleware=[Middleware(Front, service=service)],
        exception_handlers={
            BadRequest: _bad_request,
            Unavailable: _unavailable,
            QueueFull: _unavailable,
            HTTPException: _http_error,
            Exception: _bug,
        },
    )
