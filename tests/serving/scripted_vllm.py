"""vLLM's completions on a Unix socket, as vLLM 0.32 answers them; computed with transformers, two tokens an event."""

import json
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import torch

from jmedllm.errors import InputError


@dataclass
class ScriptedVllm:
    """A process of vLLM, see `child_server.Process`.

    Attributes:
        network: what it runs.
        socket: path of its socket.
        process: a process that does nothing, and can be ended.
        refused: why it does not load the model; empty if it does.
        steps: number of tokens that it has computed.
    """

    network: Any
    socket: Path
    process: "subprocess.Popen[bytes]"
    refused: str = ""
    key: str = "secret"
    steps: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def address(self) -> str:
        if self.refused:
            raise InputError(self.refused)
        return str(self.socket)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    @torch.no_grad()
    def tokens(self, body: Mapping[str, Any]) -> Iterator[tuple[int, float, dict[str, float]]]:
        """Yield tokens with their log-probability and the most likely ones, before any setting."""
        ids = list(body["prompt"])
        generator = torch.Generator().manual_seed(body["seed"] or 0)
        for _ in range(body["max_tokens"]):
            with self.lock:
                self.steps += 1
                row = self.network(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            chosen = row.clone()
            if allowed := body.get("allowed_token_ids"):
                chosen = torch.full_like(row, -torch.inf).index_fill(0, torch.tensor(allowed), 0.0)
            if body["temperature"] > 0:
                chances = (chosen / body["temperature"]).softmax(-1)
                token = int(torch.multinomial(chances, 1, generator=generator))
            else:
                token = int(chosen.argmax())
            values, likeliest = row.topk(body["logprobs"] or 1)
            top = dict(zip(likeliest.tolist(), values.tolist(), strict=True)) if body["logprobs"] else {}
            top |= {token: float(row[token])}
            yield token, float(row[token]), {f"token_id:{each}": value for each, value in top.items()}
            ids.append(token)
            if token in body["stop_token_ids"]:
                return

    def choice(self, body: Mapping[str, Any], found: Sequence[Any], *, is_last: bool) -> dict[str, Any]:
        ids = [token for token, _, _ in found]
        reason = "stop" if ids[-1] in body["stop_token_ids"] else "length"
        listed = {"token_logprobs": [value for _, value, _ in found], "top_logprobs": [top for *_, top in found]}
        return {
            "token_ids": ids,
            "logprobs": None if body["logprobs"] is None else listed,
            "finish_reason": reason if is_last else None,
        }


class _Handler(BaseHTTPRequestHandler):
    vllm: ScriptedVllm

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/completions" and body["model"] == "model"
        assert self.headers["Authorization"] == f"Bearer {self.vllm.key}"
        assert body["return_token_ids"] and body["return_tokens_as_token_ids"]
        self.send_response(200)
        self.end_headers()
        tokens = self.vllm.tokens(body)
        if not body.get("stream"):
            self.wfile.write(json.dumps({"choices": [self.vllm.choice(body, list(tokens), is_last=True)]}).encode())
            return
        try:
            self.stream(body, tokens)
        except OSError:  # the client has left
            tokens.close()  # type: ignore[attr-defined]

    def stream(self, body: Mapping[str, Any], tokens: Iterator[Any]) -> None:
        waiting: list[Any] = []
        for found in tokens:
            if len(waiting) == 2:
                self.event({"choices": [self.vllm.choice(body, waiting, is_last=False)]})
                waiting = []
            waiting.append(found)
        self.event({"choices": [self.vllm.choice(body, waiting, is_last=True)]})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, value: Any) -> None:
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def scripted_vllm(network: Any, folder: Path) -> Iterator[ScriptedVllm]:
    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    vllm = ScriptedVllm(network, folder / "vllm", subprocess.Popen(["sleep", "60"]))
    handler = type("Bound", (_Handler,), {"vllm": vllm})
    with Server(str(vllm.socket), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield vllm
        finally:
            server.shutdown()
            vllm.kill()
