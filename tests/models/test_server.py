"""A served model: right answers from a good server, and nothing lost or asked twice from a bad one."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conftest import own_exam
from jmedllm.errors import InputError
from jmedllm.exam.examine import ExamSettings, papers, sit_papers
from jmedllm.exam.prompts.asking import Prompting
from jmedllm.exam.records import read_records
from jmedllm.models import Request, Writing
from jmedllm.models.labels import UNLISTED
from jmedllm.models.server import connect

KEY = "secret"
REQUESTS = [Request(f"q{i}", f"question {i}\n", f"q{i}", write=True) for i in range(6)]


class Server(ThreadingHTTPServer):
    """Echoes prompts; `faults` are how the next requests fail, in turn."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.faults: list[str] = []
        self.answered: Counter[str] = Counter()
        self.top = [("c", -0.5), (" c", -2.0), ("a", -3.0)]
        self.lock = threading.Lock()
        self.at_work = self.most_at_work = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, *_: Any) -> None:
        """Connections that a test cuts are no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            fault = self.server.faults.pop(0) if self.server.faults else "none"
            self.server.at_work += 1
            self.server.most_at_work = max(self.server.most_at_work, self.server.at_work)
        time.sleep(0.01)
        with self.server.lock:
            self.server.at_work -= 1
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return self.reply(401, {"error": {"message": "wrong key"}})
        if fault == "cut":
            return self.connection.close()
        if fault == "garbage":
            return self.send(200, b'{"choices": [{"text": "half')
        if fault == "page":
            return self.send(200, b"<html>busy</html>", {"Content-Type": "text/html"})
        if fault == "empty":
            return self.reply(200, {"error": {"message": "overloaded"}})
        if fault == "slow":
            time.sleep(0.5)
        if fault.isdigit():
            return self.reply(int(fault), {"error": {"message": "busy"}})
        if fault == "429 later":
            return self.reply(429, {"error": {"message": "busy"}}, {"Retry-After": "0.05"})
        return self.reply(
            200, {"id": "1", "object": "x", "created": 1, "model": "m", "choices": [self.choice(body)]}
        )

    def choice(self, body: dict[str, Any]) -> dict[str, Any]:
        chat = "messages" in body
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        with self.server.lock:
            self.server.answered[prompt] += 1
        top = self.server.top
        text = "c" if body["max_tokens"] == 1 else f"echo of {prompt}"
        end = "length" if "5" in prompt else "stop"
        logprobs: dict[str, Any] | None = None
        if chat and body.get("logprobs"):
            listed = [{"token": token, "logprob": value, "bytes": None} for token, value in top]
            logprobs = {"content": [{**listed[0], "top_logprobs": listed}], "refusal": None}
        elif body.get("logprobs"):
            logprobs = {"top_logprobs": [dict(top)], "tokens": ["c"], "token_logprobs": [-0.5], "text_offset": [0]}
        message = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        return {"index": 0, "finish_reason": end, "logprobs": logprobs, **message}

    def reply(self, code: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self.send(code, json.dumps(body).encode(), headers)

    def send(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in ({"Content-Type": "application/json"} | (headers or {})).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    with Server(port) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("JMEDLLM_API_KEY", KEY)
    # The waits between attempts, which a user is given in seconds.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)
    monkeypatch.setattr("jmedllm.models.server.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("jmedllm.models.server.LONGEST_WAIT_S", 0.02)
    with serving() as running:
        yield running


@pytest.mark.parametrize("chat", [False, True])
def test_every_answer_comes_once(server: Server, chat: bool) -> None:
    model = connect(server.url, "m", chat=chat, concurrency=3)
    turns = [{"role": "user", "content": "question 5\n"}]
    requests = [*REQUESTS[:5], Request("q5", model.chat_text(turns), "q5", write=True)] if chat else REQUESTS
    if chat:
        requests = [
            Request(r.id, model.chat_text([{"role": "user", "content": f"question {i}\n"}]), r.id, write=True)
            for i, r in enumerate(requests)
        ]
    found = dict(model.answer(requests, Writing(64)))
    texts = [found[i].completion.text for i in range(6)]
    assert texts == [f"echo of question {i}\n" for i in range(6)]
    assert [found[i].completion.truncated for i in range(6)] == [False] * 5 + [True]
    assert set(server.answered.values()) == {1} and server.most_at_work <= 3


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize(
    ("top", "log_probs"),
    [
        pytest.param([("c", -0.5), (" c", -2.0), ("a", -3.0)], (-3.0, UNLISTED, -0.298587), id="both spellings"),
        pytest.param([("The", -0.5), ("C", -2.0), ("\nc", -3.0), ("cc", -4.0)], None, id="none listed"),
    ],
)
def test_labels_as_the_local_engine_reads_them(
    server: Server, chat: bool, top: list[tuple[str, float]], log_probs: tuple[float, ...] | None
) -> None:
    server.top = top
    model = connect(server.url, "m", chat=chat)
    prompt = model.chat_text([{"role": "user", "content": "Q"}]) if chat else "Q"
    [(_, response)] = model.answer([Request("q", prompt, labels=("a", "b", "c"))], Writing(1))
    assert response.log_probs == (log_probs and pytest.approx(log_probs, abs=1e-6))


def test_no_label_listed_is_no_answer_in_the_scores(server: Server, tmp_path: Path) -> None:
    server.top = [("The", -0.5), ("Sure", -2.0)]
    exam = own_exam(tmp_path / "exam.jsonl")
    settings = ExamSettings(benchmarks=[str(exam)], languages=["ja"], tracks=["likelihood"], selection="all")
    sat = papers(settings, Prompting(answer_as="letter"), Path("unused"))
    described = {"model": "m", "fingerprint": "served m"}
    [sitting] = sit_papers(sat, described, lambda: connect(server.url, "m", chat=False), tmp_path / "out")
    [score] = sitting.scores
    assert score.correct == 0 and score.no_answer == score.n > 0 and sitting.calibration is None


@pytest.mark.parametrize("fault", ["429", "429 later", "500", "503", "cut", "slow", "garbage", "page", "empty"])
def test_what_fails_for_a_while_is_asked_again(server: Server, fault: str) -> None:
    server.faults = [fault] * 5
    model = connect(server.url, "m", chat=False, concurrency=2, timeout_s=0.2)
    found = dict(model.answer(REQUESTS, Writing(64)))
    assert [found[i].completion.text for i in range(6)] == [f"echo of question {i}\n" for i in range(6)]


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("400", "question q0: server says 400: .*busy"),
        ("404", "question q0: server says 404"),
        ("500", "question q0: server says 500"),
        ("cut", "cannot be reached: .*; is it running"),
        ("garbage", "question q0: the server's answer cannot be read"),
        ("empty", "question q0: the server's answer cannot be read"),
    ],
)
def test_what_fails_for_good_is_one_line(
    server: Server, fault: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jmedllm.models.server.RETRIES", 2)
    server.faults = [fault] * 9
    with pytest.raises(InputError, match=problem):
        list(connect(server.url, "m", chat=False).answer(REQUESTS[:1], Writing(64)))


def test_garbage_is_not_given_up_early_and_loses_nothing(server: Server) -> None:
    # Eight more attempts after the first, as after a 5xx; the second question must not be asked again.
    requests = [Request("q0", "question 0\n", labels=("a", "c"), write=True)]
    server.faults = ["none"] + ["garbage"] * 8
    [(_, response)] = connect(server.url, "m", chat=False).answer(requests, Writing(64))
    assert response.completion is not None and response.log_probs is not None
    assert server.answered == {"question 0\n": 2}
    server.faults = ["garbage"] * 9
    with pytest.raises(InputError, match="cannot be read"):
        list(connect(server.url, "m", chat=False).answer(REQUESTS[:1], Writing(64)))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (
            "http://127.0.0.1:9/v1",
            r"server http://127\.0\.0\.1:9/v1/: cannot be reached: .*refused; start it or mend",
        ),
        ("127.0.0.1:9/v1", r"cannot be reached: .*'http://'.*; start it or mend"),
    ],
)
def test_no_server_is_said_at_once(
    server: Server, url: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long waits as a user has them, which must not be waited for.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 8.0)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 8.0)
    begun = time.monotonic()
    with pytest.raises(InputError, match=problem):
        list(connect(url, "m", chat=False).answer(REQUESTS, Writing(64)))
    assert time.monotonic() - begun < 5


def test_a_server_that_starts_again_in_the_middle_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 1.0)
    with serving() as first:
        model, port = connect(first.url, "m", chat=False, concurrency=2), first.server_address[1]
        assert len(list(model.answer(REQUESTS[:1], Writing(64)))) == 1
    found: list[int] = []
    exam = threading.Thread(target=lambda: found.extend(dict(model.answer(REQUESTS, Writing(64)))))
    exam.start()
    time.sleep(0.3)
    with serving(port):
        exam.join()
    assert sorted(found) == list(range(6))


def test_no_key_wrong_key_and_whole_choices(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = connect("http://127.0.0.1:9/v1", "m", chat=False)
    with pytest.raises(InputError, match="a server gives no likelihood of whole choices"):
        list(nobody.answer([Request("q", "Q", choices=("a", "b"))], Writing(1)))
    monkeypatch.setenv("JMEDLLM_API_KEY", "wrong")
    with pytest.raises(InputError, match=r"server says 401: .*wrong key"):
        list(connect(server.url, "m", chat=False).answer(REQUESTS[:1], Writing(64)))
    monkeypatch.delenv("JMEDLLM_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match=r"no key for http://x: set JMEDLLM_API_KEY"):
        connect("http://x", "m", chat=False)


def test_a_sitting_goes_on_where_the_server_died(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = own_exam(tmp_path / "exam.jsonl")
    settings = ExamSettings(benchmarks=[str(exam)], languages=["ja"], tracks=["answer"], selection="all")
    sat = papers(settings, Prompting(answer_as="letter"), Path("unused"))
    described = {"model": "m", "fingerprint": f"served at {server.url}"}

    def sit() -> Any:
        return sit_papers(
            sat, described, lambda: connect(server.url, "m", chat=False, concurrency=2), tmp_path / "out"
        )

    monkeypatch.setattr("jmedllm.models.server.RETRIES", 0)
    server.faults = ["none"] * 3 + ["500"]
    with pytest.raises(InputError, match="server says 500"):
        sit()
    # The one that was under way beside the fault is kept.
    assert len(read_records(tmp_path / "out" / "exam.ja.jsonl")) in (3, 4)
    server.faults = []
    sit()
    assert len(read_records(tmp_path / "out" / "exam.ja.jsonl")) == 7
    assert sorted(server.answered.values()) == [1] * 7
