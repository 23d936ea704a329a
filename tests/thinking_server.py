"""A scripted thinking model behind an OpenAI-compatible server on the loopback, for tests and for trying things out.

python tests/thinking_server.py --port 8000 --form reasoning

A token is a word. The model thinks about each question, then answers with the choice that the script names.
"""

import argparse
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HARMONY = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>")

FORMS: dict[str, tuple[str, str]] = {
    "tags": ("<think>\n", "\n</think>\n\n"),
    "opened": ("", "\n</think>\n\n"),  # the prompt has written the opening
    "harmony": HARMONY,
    "reasoning_content": ("", ""),  # in a field of its own, with these names
    "reasoning": ("", ""),
    "thinking": ("", ""),
}
"""How a thought is written: what comes before and after it in the text."""

OPENING = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<|a|>"
SWITCHED = (
    OPENING + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% else %}<think>\n{% endif %}{% endif %}"
)
"""A template that opens a thought unless `enable_thinking` is false."""

THOUGHT = "The findings suggest a deficiency . Option c looks right at first , but the answer must fit all of them ."


@dataclass
class Script:
    """What the model does.

    Attributes:
        form: see `FORMS`.
        thought: what it thinks; repeated up to `thought_tokens`.
        answer: returns the answer to a prompt at its nth request, from 0.
        thought_tokens: length of the thought in words; None for once.
        deaf: whether it thinks although thinking is off, exceeds a budget and ignores a constraint.
        kind: owner of the model, by which servers are recognized.
        capacity: largest number of requests at a time; more are answered with 429.
        retry_after: header of a 429.
        template: chat template that `/props` shows; None for a server that shows none.
        counts_thought: whether usage has the tokens of the thought.
        refuses: fields that it does not know, as OpenAI's API does not.
        seconds: time for each answer.
    """

    form: str = "reasoning_content"
    thought: str = THOUGHT
    answer: Callable[[str, int], str] = lambda prompt, number: "b"
    thought_tokens: int | None = None
    deaf: bool = False
    kind: str = "vllm"
    capacity: int = 1000
    retry_after: str | None = None
    template: str | None = None
    counts_thought: bool = True
    refuses: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass
class Written:
    """A reply: the thought, the answer, and whether each of them is whole."""

    thought: list[str]
    answer: list[str]
    cut: bool
    complete_thought: bool = True


def reply(script: Script, body: dict[str, Any], number: int) -> Written:
    """Think and answer within the limits of a request."""
    variables = body.get("chat_template_kwargs") or {}
    off = variables.get("enable_thinking") is False and not script.deaf
    thought = [] if off or "messages" not in body else script.thought.split()
    if thought and script.thought_tokens is not None:
        thought = (thought * (script.thought_tokens // len(thought) + 1))[: script.thought_tokens]
    budget = body.get("thinking_token_budget", body.get("thinking_budget_tokens"))
    if budget is not None and not script.deaf:
        thought = thought[:budget]
    text = script.answer(prompt_of(body), number)
    allowed = allowed_in(body)
    if allowed and not script.deaf:
        text = text if text in allowed else allowed[0]
        text = json.dumps({"answer": text}) if "response_format" in body else text
    answer, limit = text.split(" "), body.get("max_tokens", body.get("max_completion_tokens"))
    if len(thought) + len(answer) <= limit:
        return Written(thought, answer, False)
    if len(thought) >= limit:
        return Written(thought[:limit], [], True, complete_thought=False)
    return Written(thought, answer[: limit - len(thought)], True)


def allowed_in(body: dict[str, Any]) -> list[str]:
    """Return the texts that a request allows, in the form of any server."""
    if "structured_outputs" in body:
        return list(body["structured_outputs"]["choice"])
    if grammar := body.get("grammar", body.get("ebnf")):
        return [json.loads(each) for each in re.findall(r'"(?:[^"\\]|\\.)*"', grammar)]
    if schema := body.get("response_format"):
        return list(schema["json_schema"]["schema"]["properties"]["answer"]["enum"])
    return []


def prompt_of(body: dict[str, Any]) -> str:
    """Return the prompt, or the last message."""
    content = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
    return str(content if isinstance(content, str) else content[-1]["text"])


def message_of(script: Script, written: Written, *, raw: bool) -> dict[str, Any]:
    """Write a reply in the script's form. Without an answer a separate thought leaves null as the content.

    Args:
        raw: whether the thought stays in the text, as `reasoning_format: none` of llama.cpp has it.
    """
    thought, answer = " ".join(written.thought), " ".join(written.answer)
    before, after = FORMS["tags" if raw else script.form]
    if not thought:
        return {"content": answer}
    if before or after:
        return {"content": before + thought + (after + answer if written.complete_thought else "")}
    return {script.form: thought, "content": answer or None}


@dataclass
class ThinkingServer:
    """A running server.

    Attributes:
        bodies: requests so far, refused ones left out.
        most_at_work: largest number of requests that were answered at a time.
        throttled: number of 429.
    """

    script: Script
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    at_work: int = 0
    most_at_work: int = 0
    throttled: int = 0
    lock: Any = field(default_factory=threading.Lock)

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Return status, body and headers for a request."""
        for name in self.script.refuses:
            if name in body:
                return 400, {"error": {"message": f"Unrecognized request argument supplied: {name}"}}, {}
        with self.lock:
            if self.at_work >= self.script.capacity:
                self.throttled += 1
                after = {"Retry-After": self.script.retry_after} if self.script.retry_after else {}
                return 429, {"error": {"message": "too many requests"}}, after
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            self.bodies.append(body)
            number = self.asked[prompt_of(body)]
            self.asked[prompt_of(body)] += 1
        try:
            time.sleep(self.script.seconds)
            return 200, self.completion(path, body, number), {}
        finally:
            with self.lock:
                self.at_work -= 1

    def completion(self, path: str, body: dict[str, Any], number: int) -> dict[str, Any]:
        written = reply(self.script, body, number)
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length" if written.cut else "stop", "logprobs": None}
        if path.endswith("/chat/completions"):
            raw = body.get("reasoning_format") == "none"
            choice["message"] = {"role": "assistant", **message_of(self.script, written, raw=raw)}
        else:
            choice["text"] = " ".join(written.answer)
        if body.get("logprobs"):
            listed = [{"token": name, "logprob": -float(n + 1)} for n, name in enumerate("bcade")]
            top = {"content": [{**listed[0], "top_logprobs": listed}]}
            flat = {"top_logprobs": [{each["token"]: each["logprob"] for each in listed}]}
            choice["logprobs"] = top if "message" in choice else flat
        thinking, new = len(written.thought), len(written.thought) + len(written.answer)
        usage: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": new, "total_tokens": 9 + new}
        if self.script.counts_thought:
            usage["completion_tokens_details"] = {"reasoning_tokens": thinking}
        return {"id": "1", "object": "x", "created": 1, "model": "m", "choices": [choice], "usage": usage}

    def get(self, path: str) -> dict[str, Any] | None:
        """Return what is shown at a path; None for 404."""
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": self.script.kind}]}
        if path == "/props" and self.script.template is not None:
            return {"chat_template": self.script.template, "default_generation_settings": {}, "bos_token": "<s>"}
        return None


@contextmanager
def serving(script: Script, port: int = 0) -> Iterator[ThinkingServer]:
    """Run a server until the block ends."""
    found = ThinkingServer(script)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.send(*found.post(self.path, body))

        def do_GET(self) -> None:
            shown = found.get(self.path)
            self.send(404 if shown is None else 200, shown or {}, {})

        def send(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
            data = json.dumps(body, ensure_ascii=False).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    class Loopback(ThreadingHTTPServer):
        request_queue_size = 128  # so that no connection of a test is refused

    with Loopback(("127.0.0.1", port), Handler) as running:
        found.url = f"http://127.0.0.1:{running.server_address[1]}/v1"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield found
        finally:
            running.shutdown()
            thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--form", choices=FORMS, default="reasoning_content")
    parser.add_argument("--kind", default="vllm")
    parser.add_argument("--thought-tokens", type=int)
    parser.add_argument("--capacity", type=int, default=1000)
    given = parser.parse_args()
    script = Script(
        form=given.form, kind=given.kind, thought_tokens=given.thought_tokens, capacity=given.capacity, seconds=0.05
    )
    with serving(script, given.port) as server:
        sys.stdout.write(f"{server.url}: model m; stop it with Ctrl-C\n")
        sys.stdout.flush()
        threading.Event().wait()


if __name__ == "__main__":
    main()
