"""Backend openai: right responses from a good server, nothing lost and nothing requested twice with a bad one."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, write_questions
from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate import EvalConfig, evaluate_model, evaluate_tasks, tasks
from jmedllm.evaluation.evaluate_task import PreparedModel
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.evaluation.records import read_judge_replies, read_samples
from jmedllm.evaluation.scorers import SCORERS, GradedItemScore, Scorer
from jmedllm.files import read_json, to_json
from jmedllm.models.backends.base import GenerationConfig, ModelSpec, Request
from jmedllm.models.backends.openai.replies import is_too_long
from jmedllm.models.backends.openai.server import connect
from jmedllm.models.backends.top_logprobs import UNLISTED
from jmedllm.named_server import ClientOptions
from jmedllm.report.notes import item_notes

KEY = "secret"
REQUESTS = [Request(f"q{i}", f"question {i}\n", f"q{i}", generate=True) for i in range(6)]


class Server(ThreadingHTTPServer):
    """Echoes prompts; `faults` are how the next requests fail, in turn; `refusals` are by words of the prompt."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.faults: list[str] = []
        self.refusals: dict[str, tuple[int, dict[str, Any]]] = {}
        self.props: dict[str, Any] = {}
        self.message: dict[str, Any] = {}
        self.chat_shaped = False
        self.finish = ""
        self.answered: Counter[str] = Counter()
        self.top = [("c", -0.5), (" c", -2.0), ("a", -3.0)]
        self.lock = threading.Lock()
        self.at_work = self.most_at_work = 0
        self.bodies: list[dict[str, Any]] = []

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
            self.server.bodies.append(body)
            fault = self.server.faults.pop(0) if self.server.faults else "none"
            self.server.at_work += 1
            self.server.most_at_work = max(self.server.most_at_work, self.server.at_work)
        time.sleep(0.01)
        with self.server.lock:
            self.server.at_work -= 1
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return self.reply(401, {"error": {"message": "wrong key"}})
        for words, (code, error) in self.server.refusals.items():
            if words in json.dumps(body, ensure_ascii=False):
                return self.reply(code, error)
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
        return self.reply(200, {"id": "1", "object": "x", "created": 1, "model": "m", "choices": [self.choice(body)]})

    def choice(self, body: dict[str, Any]) -> dict[str, Any]:
        chat = "messages" in body
        prompt = body["messages"][-1]["content"] if chat else body["prompt"]
        if isinstance(prompt, list):
            prompt = prompt[-1]["text"]
        with self.server.lock:
            self.server.answered[prompt] += 1
        top = self.server.top
        text = "c" if body["max_tokens"] == 1 else f"echo of {prompt}"
        end = self.server.finish or ("length" if "5" in prompt else "stop")
        logprobs: dict[str, Any] | None = None
        if (chat or self.server.chat_shaped) and body.get("logprobs"):
            listed = [{"token": token, "logprob": value, "bytes": None} for token, value in top]
            logprobs = {"content": [{**listed[0], "top_logprobs": listed}], "refusal": None}
        elif body.get("logprobs"):
            logprobs = {"top_logprobs": [dict(top)], "tokens": ["c"], "token_logprobs": [-0.5], "text_offset": [0]}
        message: dict[str, Any] = {"text": text}
        if chat:
            message = {"message": {"role": "assistant", "content": text, **self.server.message}}
        return {"index": 0, "finish_reason": end, "logprobs": logprobs, **message}

    def do_GET(self) -> None:
        found = self.path == "/props" and self.server.props
        self.reply(200 if found else 404, self.server.props if found else {})

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
    monkeypatch.setattr("jmedllm.models.backends.openai.throttle.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("jmedllm.models.backends.openai.throttle.LONGEST_WAIT_S", 0.02)
    monkeypatch.setattr("jmedllm.models.backends.openai.exchange.SLOWEST_TOKEN_S", 0.0)
    with serving() as running:
        yield running


@pytest.mark.parametrize("chat", [False, True])
def test_every_request_has_one_response(server: Server, chat: bool) -> None:
    model = connect(server.url, "m", chat=chat, concurrency=3)
    turns = [{"role": "user", "content": "question 5\n"}]
    requests = [*REQUESTS[:5], Request("q5", model.chat_text(turns), "q5", generate=True)] if chat else REQUESTS
    if chat:
        requests = [
            Request(r.id, model.chat_text([{"role": "user", "content": f"question {i}\n"}]), r.id, generate=True)
            for i, r in enumerate(requests)
        ]
    found = dict(model.answer(requests, GenerationConfig(64)))
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
def test_labels_are_read_as_by_the_local_backend(
    server: Server, chat: bool, top: list[tuple[str, float]], log_probs: tuple[float, ...] | None
) -> None:
    server.top = top
    model = connect(server.url, "m", chat=chat)
    prompt = model.chat_text([{"role": "user", "content": "Q"}]) if chat else "Q"
    [(_, response)] = model.answer([Request("q", prompt, labels=("a", "b", "c"))], GenerationConfig(1))
    assert response.log_probs == (log_probs and pytest.approx(log_probs, abs=1e-6))


def test_no_label_listed_is_no_answer_in_the_scores(server: Server, tmp_path: Path) -> None:
    server.top = [("The", -0.5), ("Sure", -2.0)]
    exam = write_questions(tmp_path / "exam.jsonl")
    settings = EvalConfig(benchmarks=[str(exam)], languages=["ja"], scorers=["likelihood"], selection="all")
    eval_tasks = tasks(settings, PromptConfig(answer_as="letter"), Path("unused"))
    described = {"model": "m", "fingerprint": "served m"}
    model = PreparedModel(described, lambda: connect(server.url, "m", chat=False))
    [result] = evaluate_tasks(eval_tasks, model, tmp_path / "out")
    [score] = result.scores
    assert score.correct == 0 and score.no_answer == score.n > 0 and result.calibration is None


GRADE = Scorer(
    summary="a grade from the judge",
    needs="response",
    applies=lambda question: True,
    score_item=lambda output: GradedItemScore(int(output.judge_reply or 0) / 10, "graded"),
    judge_prompt=lambda output: f"Grade from 0 to 10: {output.presented.question.id}",
    binary=False,
)


def test_a_judge_on_a_server(cli: Cli, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS, "grade", GRADE)
    server.message = {"content": "7"}  # of a chat, which only the judge is asked for
    exam = write_questions(tmp_path / "exam.jsonl", count=3)
    command = ("eval", "--backend", "openai", "--server", server.url, "--model", "m", "--benchmark", exam)
    command += ("--language", "ja", "--selection", "all", "--scorer", "grade", "--output", tmp_path / "out", "--json")
    code, _, errors = cli(*command, "--judge", server.url)
    assert code == 2 and f"--judge {server.url}: which model of the server? write {server.url}#NAME" in errors
    code, output, errors = cli(*command, "--judge", f"{server.url}#grader")
    assert code == 0, errors
    [score] = json.loads(output)["scores"]
    assert (score["scorer"], score["value"], score["n"]) == ("grade", pytest.approx(0.7), 3)
    replies = read_judge_replies(tmp_path / "out" / "exam.ja.judge.jsonl").values()
    assert [each.judge for each in replies] == [f"served grader at {server.url}"] * 3
    asked = sum(server.answered.values())
    assert cli(*command, "--judge", f"{server.url}#grader")[0] == 0
    assert sum(server.answered.values()) == asked == 6, "stored replies are not asked for again"
    # Another judge that refuses every prompt; the scores of the first one stay.
    server.refusals = {"Grade from 0 to 10": (400, {"error": {"message": "no"}})}
    code, _, errors = cli(*command, "--judge", f"{server.url}#other")
    assert (
        code == 2
        and "judge other: question q" in errors
        and "answers 400: " in errors
        and "; count such items" in errors
    )
    code, output, _ = cli("score", tmp_path / "out", "--json")
    assert code == 0 and json.loads(output)["scores"] == [score]
    code, output, errors = cli(*command, "--judge", f"{server.url}#other", "--skip-invalid")
    assert code == 0, errors
    summary = json.loads((tmp_path / "out" / "exam.ja.json").read_text(encoding="utf-8"))
    assert summary["failures"] == {"judge: rejected": ["q0", "q1", "q2"]}
    server.refusals = {}
    code, output, errors = cli(*command, "--judge", f"{server.url}#other", "--skip-invalid")
    assert code == 0 and json.loads(output)["scores"] == [score], "failed replies are asked for again"


@pytest.mark.parametrize("fault", ["429", "429 later", "500", "503", "cut", "slow", "garbage", "page", "empty"])
def test_temporary_failures_are_retried(server: Server, fault: str) -> None:
    server.faults = [fault] * (3 if fault == "slow" else 5)
    model = connect(server.url, "m", chat=False, concurrency=2, options=ClientOptions(timeout_s=0.2))
    found = dict(model.answer(REQUESTS, GenerationConfig(64)))
    assert [found[i].completion.text for i in range(6)] == [f"echo of question {i}\n" for i in range(6)]


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("400", "question q0: the server answers 400: .*busy"),
        ("404", "question q0: the server answers 404"),
        ("500", "question q0: the server answers 500"),
        ("cut", "cannot be reached: .*; is it running"),
        ("garbage", "question q0: the server's response cannot be read"),
        ("empty", "question q0: the server's response cannot be read"),
    ],
)
def test_permanent_failures_are_reported_in_one_line(
    server: Server, fault: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jmedllm.models.backends.openai.throttle.RETRIES", 2)
    server.faults = [fault] * 9
    with pytest.raises(InputError, match=problem):
        list(connect(server.url, "m", chat=False).answer(REQUESTS[:1], GenerationConfig(64)))


def test_garbage_is_not_given_up_early_and_loses_nothing(server: Server) -> None:
    # Eight more attempts after the first, as after a 5xx; the second question must not be asked again.
    requests = [Request("q0", "question 0\n", labels=("a", "c"), generate=True)]
    server.faults = ["none"] + ["garbage"] * 8
    [(_, response)] = connect(server.url, "m", chat=False).answer(requests, GenerationConfig(64))
    assert response.completion is not None and response.log_probs is not None
    assert server.answered == {"question 0\n": 2}
    server.faults = ["garbage"] * 9
    with pytest.raises(InputError, match="cannot be read"):
        list(connect(server.url, "m", chat=False).answer(REQUESTS[:1], GenerationConfig(64)))


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (
            "http://127.0.0.1:9/v1",
            r"server http://127\.0\.0\.1:9/v1/: cannot be reached: .*refused; start it or correct",
        ),
        ("127.0.0.1:9/v1", r"--server '127.0.0.1:9/v1': is not an address; give one such as http://127.0.0.1:8080"),
    ],
)
def test_an_unreachable_server_is_reported_at_once(
    server: Server, url: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long waits as a user has them, which must not be waited for.
    monkeypatch.setattr("jmedllm.models.backends.openai.throttle.FIRST_WAIT_S", 8.0)
    begun = time.monotonic()
    with pytest.raises(InputError, match=problem):
        list(connect(url, "m", chat=False).answer(REQUESTS, GenerationConfig(64)))
    assert time.monotonic() - begun < 5


def test_a_server_that_starts_again_in_the_middle_is_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jmedllm.models.backends.openai.throttle.LONGEST_WAIT_S", 1.0)
    with serving() as first:
        model, port = connect(first.url, "m", chat=False, concurrency=2), first.server_address[1]
        assert len(list(model.answer(REQUESTS[:1], GenerationConfig(64)))) == 1
    found: list[int] = []
    exam = threading.Thread(target=lambda: found.extend(dict(model.answer(REQUESTS, GenerationConfig(64)))))
    exam.start()
    time.sleep(0.3)
    with serving(port):
        exam.join()
    assert sorted(found) == list(range(6))


def test_no_key_wrong_key_and_whole_choices(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = connect("http://127.0.0.1:9/v1", "m", chat=False)
    with pytest.raises(InputError, match="a server returns no log-probabilities of whole choices"):
        list(nobody.answer([Request("q", "Q", choices=("a", "b"))], GenerationConfig(1)))
    monkeypatch.setenv("JMEDLLM_API_KEY", "wrong")
    with pytest.raises(InputError, match=r"the server answers 401: .*wrong key"):
        list(connect(server.url, "m", chat=False).answer(REQUESTS[:1], GenerationConfig(64)))
    monkeypatch.delenv("JMEDLLM_API_KEY")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(InputError, match=r"no key for http://x: set JMEDLLM_API_KEY"):
        connect("http://x", "m", chat=False)


def test_an_evaluation_resumes_after_the_server_died(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    settings = EvalConfig(benchmarks=[str(exam)], languages=["ja"], scorers=["answer"], selection="all")
    eval_tasks = tasks(settings, PromptConfig(answer_as="letter"), Path("unused"))
    described = {"model": "m", "fingerprint": f"served at {server.url}"}

    def evaluate_task() -> Any:
        model = PreparedModel(described, lambda: connect(server.url, "m", chat=False, concurrency=2))
        return evaluate_tasks(eval_tasks, model, tmp_path / "out")

    monkeypatch.setattr("jmedllm.models.backends.openai.throttle.RETRIES", 0)
    server.faults = ["none"] * 3 + ["500"]
    with pytest.raises(InputError, match="the server answers 500"):
        evaluate_task()
    # The one that was under way beside the fault is kept.
    assert len(read_samples(tmp_path / "out" / "exam.ja.samples.jsonl")) in (3, 4)
    server.faults = []
    evaluate_task()
    assert len(read_samples(tmp_path / "out" / "exam.ja.samples.jsonl")) == 7
    assert sorted(server.answered.values()) == [1] * 7


def test_text_is_sent_as_a_model_here_reads_it(server: Server) -> None:
    [(_, response)] = connect(server.url, "m", chat=False).answer(
        [Request("q", "Which? Answer:  ", labels=("a", "c"), generate=True)], GenerationConfig(8)
    )
    assert response.completion is not None and response.completion.text == "echo of Which? Answer:"
    assert set(server.answered) == {"Which? Answer:"}


def test_llama_cpp_gives_text_the_probabilities_of_a_chat(server: Server) -> None:
    server.chat_shaped = True
    [(_, response)] = connect(server.url, "m", chat=False).answer(
        [Request("q", "Q", labels=("a", "b", "c"))], GenerationConfig(1)
    )
    assert response.log_probs == pytest.approx((-3.0, UNLISTED, -0.298587), abs=1e-6)


TOO_LONG = {
    "vLLM": "This model's maximum context length is 2048 tokens. However, you requested 3120 tokens (2864 in the "
    "messages, 256 in the completion). Please reduce the length of the messages or completion.",
    "vLLM today": "You passed 2864 input tokens and requested 256 output tokens. However, the model's context "
    "length is only 2048 tokens, resulting in a maximum input length of 1792 tokens.",
    "vLLM, prompt alone": "The prompt (total length 25938) is too long to fit into the model (context length "
    "4096). Make sure that `max_model_len` is no smaller than the number of text tokens.",
    "llama.cpp": "request (1501 tokens) exceeds the available context size (1024 tokens), try increasing it",
    "SGLang": "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
    "SGLang, with output": "Requested token count exceeds the model's maximum context length of 4096 tokens.",
    "TGI": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 and 256",
    "TGI, prompt alone": "Input validation error: `inputs` must have less than 1024 tokens. Given: 2000",
    "Gemini": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048575).",
    "Anthropic": "prompt is too long: 210000 tokens > 200000 maximum",
    "Mistral": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
    "Ollama": "the input length exceeds the context length",
    "TensorRT-LLM": "input_ids: The length of input (5000) exceeds max_seq_len (4096)",
    "MLC": "Request prompt has 2864 tokens in total, larger than the model input length limit 2048.",
}


@pytest.mark.parametrize("message", [pytest.param(text, id=name) for name, text in TOO_LONG.items()])
def test_every_server_s_too_long(message: str) -> None:
    assert is_too_long(400, message) and is_too_long(422, message)
    assert not is_too_long(500, message)


@pytest.mark.parametrize(
    "message",
    [
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "System role not supported",
        "max_tokens must be at least 1, got -1",
        "The model `m` does not exist.",
        "Requested 20 logprobs; the maximum is 5",
    ],
)
def test_another_refusal_is_not_too_long(message: str) -> None:
    assert not is_too_long(400, message)
    assert is_too_long(400, message, "context_length_exceeded") and is_too_long(413, message)


def evaluation_with_refusals(server: Server, folder: Path, chat: bool, **settings: Any) -> Any:
    exam = write_questions(folder / "exam.jsonl")
    asked = EvalConfig(benchmarks=[str(exam)], languages=["ja"], scorers=["answer"], selection="all", **settings)
    eval_tasks = tasks(asked, PromptConfig(answer_as="letter", chat=chat), Path("unused"))
    described = {"model": "m", "fingerprint": "served m"}
    words = eval_tasks[0].questions[2].stem
    model = PreparedModel(described, lambda: connect(server.url, "m", chat=chat), to_json)
    return words, lambda: evaluate_tasks(eval_tasks, model, folder / "out")[0]


@pytest.mark.parametrize("chat", [False, True])
def test_one_item_too_long_is_no_answer_and_the_rest_is_asked(server: Server, tmp_path: Path, chat: bool) -> None:
    words, evaluate_task = evaluation_with_refusals(server, tmp_path, chat)
    server.refusals = {words: (400, {"error": {"message": TOO_LONG["vLLM"], "code": 400}})}
    result = evaluate_task()
    [score] = result.scores
    # Two of the seven questions have the same stem.
    assert score.n == 7 and result.failures == {"too long": ("q2", "q5")}
    assert result.readings["answer"]["too long"] == 2 and score.no_answer >= 2
    [note] = item_notes([result])
    assert note.startswith("m, exam ja: 2 of 7 items count as no answer, too long for the model's context: ")
    server.refusals = {}
    answered = server.answered.copy()
    assert evaluate_task() == result and server.answered == answered


@pytest.mark.parametrize("code", [400, 422])
def test_another_refusal_ends_the_evaluation_unless_it_is_skipped(server: Server, tmp_path: Path, code: int) -> None:
    refusals = {"error": {"message": "roles must alternate"}}
    words, evaluate_task = evaluation_with_refusals(server, tmp_path, False)
    server.refusals = {words: (code, refusals)}
    with pytest.raises(
        InputError, match=f"the server answers {code}: .*alternate.*; count such items .* --skip-invalid"
    ):
        evaluate_task()
    _, evaluate_task = evaluation_with_refusals(server, tmp_path, False, skip_invalid=True)
    result = evaluate_task()
    assert list(result.failures) == ["rejected"] and result.readings["answer"]["rejected"] == 2


def test_a_refusal_in_another_form_than_openai_s_is_read(server: Server) -> None:
    model = connect(server.url, "m", chat=False)
    server.refusals = {"question 1": (422, {"error": TOO_LONG["TGI"], "error_type": "validation"})}
    found = dict(model.answer(REQUESTS[:2], GenerationConfig(64)))
    assert [found[n].failure for n in range(2)] == [None, "too long"]
    server.refusals = {"question 1": (422, {"detail": [{"msg": "no such field"}]})}
    with pytest.raises(InputError, match=r"question q1: the server answers 422: .*no such field"):
        list(model.answer(REQUESTS[:2], GenerationConfig(64)))


THINKS = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}"


@pytest.mark.parametrize(
    ("props", "message", "thought_open", "reasoning"),
    [
        ({}, {}, None, None),
        ({"chat_template": THINKS}, {}, True, None),
        ({"chat_template": THINKS.replace("<think>", "")}, {}, False, None),
        ({"chat_template": "{{ raise_exception('no') }}"}, {}, None, None),
        ({"chat_template": THINKS}, {"reasoning_content": "so b"}, False, "so b"),
        ({}, {"reasoning": "so b", "content": None}, False, "so b"),
        ({}, {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "so b"}]}]}, False, "so b"),
        ({}, {"content": [{"type": "reasoning", "text": "so b"}, {"type": "text", "text": "b"}]}, False, "so b"),
    ],
)
def test_a_served_prompt_that_opens_a_thought(
    server: Server,
    props: dict[str, Any],
    message: dict[str, Any],
    thought_open: bool | None,
    reasoning: str | None,
) -> None:
    server.props, server.message = props, message
    turns = to_json([{"role": "user", "content": "Q"}])
    [(_, response)] = connect(server.url, "m", chat=True).answer(
        [Request("q", turns, generate=True)], GenerationConfig(8)
    )
    assert response.completion is not None
    assert (response.completion.thought_open, response.completion.reasoning) == (thought_open, reasoning)


CUT = [
    "まず設問を整理する。出血傾向があるので、答えはeだろう。次に",
    "Okay, so the question is about beriberi. The answer is A. Let me check",
    "<think>\n答えはbだろう。次に各選択肢を",
]


@pytest.mark.parametrize("text", CUT)
def test_a_served_reply_cut_inside_a_thought_is_truncated(server: Server, tmp_path: Path, text: str) -> None:
    _, evaluate_task = evaluation_with_refusals(server, tmp_path, True)
    server.message = {"content": text}
    server.finish = "length"
    assert evaluate_task().readings["answer"] == {"truncated": 7}


def test_a_served_evaluation_never_mixes_the_prompts_of_two_days(server: Server, tmp_path: Path) -> None:
    server.props = {"chat_template": "{{ strftime_now('%d %b %Y') }}{{ messages[0].content }}"}
    exam, output = write_questions(tmp_path / "exam.jsonl"), tmp_path / "out"
    asked = EvalConfig(benchmarks=[str(exam)], languages=["ja"], scorers=["answer"], selection="all")
    eval_tasks = tasks(asked, PromptConfig(answer_as="letter", chat=True), Path("unused"))

    def examined() -> str:
        evaluate_model(ModelSpec("m", "m", "openai", server.url, batch_size=1), eval_tasks, output)
        return str(read_json(output / "exam.ja.json")["settings"]["date"])

    today = examined()
    assert today == examined() == date.today().isoformat()
    for file in output.glob("exam.ja.json"):
        file.write_text(file.read_text(encoding="utf-8").replace(today, "2024-02-03"), encoding="utf-8")
    assert examined() == "2024-02-03"  # nothing is left to be asked
    records = (output / "exam.ja.samples.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (output / "exam.ja.samples.jsonl").write_text("".join(records[:-1]), encoding="utf-8")
    with pytest.raises(
        InputError, match="started on 2024-02-03, but the server's chat template writes today's date into"
    ):
        examined()


def test_pictures_are_sent_as_data_urls_without_metadata(server: Server, tmp_path: Path) -> None:
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    exif = Image.Exif()
    exif[0x010E] = "patient 17"
    Image.new("RGB", (40, 20), (200, 10, 10)).save(tmp_path / "a.jpg", exif=exif)
    questions = write_questions(tmp_path / "exam.jsonl", 2)
    rows = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()]
    rows[0]["images"] = ["a.jpg", "a.jpg"]
    questions.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    config = EvalConfig(benchmarks=[str(questions)], scorers=["answer", "likelihood"])
    found = tasks(config, PromptConfig(chat=True, answer_as="letter"), tmp_path)
    evaluate_model(ModelSpec("m", "m", "openai", server=server.url), found[:1], tmp_path / "out")
    bodies = [body for body in server.bodies if isinstance(body["messages"][-1]["content"], list)]
    assert len(bodies) == 2  # the response and the labels of the first question
    for body in bodies:
        *pictures, text = body["messages"][-1]["content"]
        assert text["type"] == "text" and rows[0]["question"] in text["text"]
        assert [each["type"] for each in pictures] == ["image_url", "image_url"]
        head, _, data = pictures[0]["image_url"]["url"].partition(",")
        image = Image.open(BytesIO(b64decode(data)))
        assert (head, image.size, dict(image.getexif())) == ("data:image/png;base64", (40, 20), {})
    stored = tmp_path / "out" / f"{found[0].name}.samples.jsonl"
    assert [len(sample.images) for sample in read_samples(stored).values()] == [2, 0]
    assert "data:" not in stored.read_text(encoding="utf-8")


def test_a_picture_too_large_to_send_is_refused_before_the_first_request(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    Image.effect_noise((400, 400), 90).save(tmp_path / "a.png")
    row = {"id": "1", "question": "写真を示す", "choices": ["脚気", "健常"], "answer": ["a"], "images": ["a.png"]}
    questions = tmp_path / "exam.jsonl"
    questions.write_text(json.dumps(row) + "\n", encoding="utf-8")
    monkeypatch.setattr("jmedllm.models.pictures.LARGEST_UPLOAD", 2**16)
    found = tasks(EvalConfig(benchmarks=[str(questions)], scorers=["answer"]), PromptConfig(chat=True), tmp_path)
    with pytest.raises(InputError, match=r"exam.jsonl:1: field \"images\": .*a.png: has .* MiB as PNG, more than the"):
        evaluate_model(ModelSpec("m", "m", "openai", server=server.url), found, tmp_path / "out")
    assert not server.bodies
