"""A scripted server with the interface of `jmedllm deploy serve`, for the chat page and for `jmedllm chat`.

python tests/serving/scripted_server.py
"""

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from jmedllm.serving.page import chat_page, content_security_policy

MODEL = {
    "id": "medical-8b",
    "fingerprint": "1a2b3c" * 10,
    "max_model_len": 4096,
    "chat_template": "",
    "template_variables": [],
}


@dataclass(frozen=True)
class Reply:
    """What the server does with one request.

    Attributes:
        pieces: pieces of the answer.
        thought: pieces of the thought before it.
        wait: seconds before each piece.
        status: status of a refusal, with `message`.
        cut: whether the connection ends in the middle.
    """

    pieces: Sequence[str] = ("An answer.",)
    thought: Sequence[str] = ()
    wait: float = 0.0
    status: int = 200
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    finish: str = "stop"


@dataclass
class ScriptedServer:
    """A running server, and the requests it has seen."""

    url: str
    reply: Callable[[dict[str, Any]], Reply]
    model: dict[str, Any] = field(default_factory=lambda: dict(MODEL))
    key: str | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)


def question(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


def echo(body: dict[str, Any]) -> Reply:
    return Reply(("You asked: ", question(body)))


def chunks(body: dict[str, Any], reply: Reply) -> Iterator[dict[str, Any]]:
    about = {"id": "x", "object": "chunk", "created": 0, "model": body["model"]}
    pieces, logprobs = list(reply.pieces), None
    choices = body.get("structured_outputs", {}).get("choice")
    if choices:
        weights = [math.exp(-((index - 2) ** 2)) for index in range(len(choices))]
        best = weights.index(max(weights))
        listed = [
            {"token": each, "logprob": math.log(w / sum(weights))} for each, w in zip(choices, weights, strict=True)
        ]
        pieces = [choices[best]]
        logprobs = {"content": [{**listed[best], "top_logprobs": listed}]} if body.get("logprobs") else None
    for thought in reply.thought:
        yield {**about, "choices": [{"index": 0, "delta": {"reasoning_content": thought}, "finish_reason": None}]}
    for piece in pieces:
        yield {
            **about,
            "choices": [{"index": 0, "delta": {"content": piece}, "logprobs": logprobs, "finish_reason": None}],
        }
    yield {**about, "choices": [{"index": 0, "delta": {}, "finish_reason": reply.finish}]}
    yield {**about, "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(pieces)}}


class Handler(BaseHTTPRequestHandler):
    scripted: ScriptedServer

    def do_GET(self) -> None:
        if self.path == "/":
            page = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": content_security_policy()}
            return self.send(200, chat_page().encode(), page)
        if not self.allowed():
            return self.refuse(Reply(status=401, message="wrong key"))
        return self.send(200, json.dumps({"object": "list", "data": [self.scripted.model]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.allowed():
            return self.refuse(Reply(status=401, message="wrong key"))
        self.scripted.requests.append(body)
        reply = self.scripted.reply(body)
        if reply.status != 200:
            return self.refuse(reply)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            for chunk in chunks(body, reply):
                time.sleep(reply.wait)
                self.event(json.dumps(chunk))
            if not reply.cut:
                self.event("[DONE]")
            self.scripted.ended.append("whole")
        except OSError:
            self.scripted.ended.append("client left")
        return None

    def event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def allowed(self) -> bool:
        key = self.scripted.key
        return key is None or self.headers["Authorization"] == f"Bearer {key}"

    def refuse(self, reply: Reply) -> None:
        self.send(reply.status, json.dumps({"error": {"message": reply.message}}).encode(), reply.headers)

    def send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(reply: Callable[[dict[str, Any]], Reply] = echo, port: int = 0) -> Iterator[ScriptedServer]:
    handler = type("Bound", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    handler.scripted = ScriptedServer(f"http://127.0.0.1:{server.server_port}", reply)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield handler.scripted
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with serving() as scripted:
        sys.stdout.write(f"{scripted.url}\n")
        threading.Event().wait()
