"""What servers say, each in its own words: one item too long, other refusals, log-probabilities in every shape."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conftest import own_exam
from jmedllm.errors import InputError
from jmedllm.exam.examine import ExamSettings, papers, sit_papers
from jmedllm.exam.prompts.asking import Prompting
from jmedllm.models import Request, Writing
from jmedllm.models.replies import is_cut, is_too_long, top_tokens
from jmedllm.models.server import ServerModel, connect

TOO_LONG = {
    "vLLM": "This model's maximum context length is 2048 tokens. However, your request has 2864 input tokens.",
    "vLLM, no room for a reply": "max_tokens must be at least 1, got -816.",
    "llama.cpp": "request (2864 tokens) exceeds the available context size (2048 tokens), try increasing it",
    "TGI": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048. Given: 2864 `inputs`",
    "SGLang": "The input (2864 tokens) is longer than the model's context length (2048 tokens).",
    "TensorRT-LLM": "input_ids: The length of input (5000) exceeds max_seq_len (4096)",
    "MLC": "Request prompt has 2864 tokens in total, larger than the model input length limit 2048.",
    "LM Studio": "Trying to keep the first 5000 tokens when context the overflows.",
    "Anthropic": "prompt is too long: 205000 tokens > 200000 maximum",
    "Gemini": "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
    "Mistral": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
}
OTHER = [
    "'max_tokens' must be a positive integer",
    "The response was filtered due to the prompt triggering content management policy",
    "unknown field: logprobs",
    "The model `m` does not exist.",
]


@pytest.mark.parametrize("server", TOO_LONG)
def test_a_request_that_is_too_long_is_known_by_what_the_server_says(server: str) -> None:
    assert is_too_long(400, TOO_LONG[server])


@pytest.mark.parametrize("message", OTHER)
def test_other_refusals_are_not_taken_for_too_long(message: str) -> None:
    assert not is_too_long(400, message)


def test_status_and_code_count_too() -> None:
    assert is_too_long(413, "") and is_too_long(400, "", "context_length_exceeded")
    assert is_too_long(500, TOO_LONG["llama.cpp"]) and not is_too_long(500, "busy")
    assert not is_too_long(404, TOO_LONG["vLLM"])
    assert [is_cut(reason) for reason in (None, "stop", "EOS_TOKEN", "length", "MAX_TOKENS", "abort")] == [
        False, False, False, True, True, True,
    ]  # fmt: skip


LISTED = [{"token": "c", "logprob": -0.5}, {"token": " a", "logprob": -2.0}]
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "OpenAI text": ({"logprobs": {"top_logprobs": [{"c": -0.5, " a": -2.0}]}}, {}),
    "OpenAI chat": ({"logprobs": {"content": [{"token": "c", "logprob": -0.5, "top_logprobs": LISTED}]}}, {}),
    "llama.cpp": ({}, {"completion_probabilities": [{"token": "c", "top_logprobs": LISTED}]}),
    "llama.cpp, after sampling": (
        {},
        {"completion_probabilities": [{"top_probs": [
            {"token": "c", "prob": math.exp(-0.5)}, {"token": " a", "prob": math.exp(-2)},
        ]}]},
    ),
    "llama.cpp of 2024": (
        {},
        {"completion_probabilities": [{"content": "c", "probs": [
            {"tok_str": "c", "prob": math.exp(-0.5)}, {"tok_str": " a", "prob": math.exp(-2)},
        ]}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_log_probabilities_are_read_in_every_shape(shape: str) -> None:
    choice, reply = SHAPES[shape]
    assert dict(top_tokens(choice, reply)) == pytest.approx({"c": -0.5, " a": -2.0})


@pytest.mark.parametrize(
    "choice", [{}, {"logprobs": None}, {"logprobs": {"top_logprobs": None}}, {"logprobs": {}}]
)
def test_no_log_probabilities_are_none(choice: dict[str, Any]) -> None:
    assert top_tokens(choice, {}) == []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body["prompt"])  # type: ignore[attr-defined]
        status, said = 200, {"choices": [{"index": 0, "finish_reason": "stop", "text": "c"}]}
        if self.server.refused in body["prompt"]:  # type: ignore[attr-defined]
            status, said = self.server.refusal  # type: ignore[attr-defined]
        raw = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


Serving = Callable[..., tuple[ServerModel, list[str]]]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    """Serves a model that refuses any prompt with "q1" in it."""
    monkeypatch.setenv("JMEDLLM_API_KEY", "any")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()

        def serve(refusal: tuple[int, Any], refused: str = "q1") -> tuple[ServerModel, list[str]]:
            server.asked, server.refusal, server.refused = [], refusal, refused  # type: ignore[attr-defined]
            address = f"http://127.0.0.1:{server.server_address[1]}/v1"
            return connect(address, "m", chat=False), server.asked  # type: ignore[attr-defined]

        yield serve
        server.shutdown()


REQUESTS = [Request(f"q{n}", f"q{n}: ", f"q{n}", write=True) for n in range(3)]
OPENAI = (400, {"error": {"message": TOO_LONG["vLLM"], "type": "BadRequestError", "code": 400}})
TGI = (422, {"error": TOO_LONG["TGI"], "error_type": "validation"})
FILTERED = (400, {"error": {"message": OTHER[1], "code": "content_filter"}})


@pytest.mark.parametrize("refusal", [OPENAI, TGI], ids=["OpenAI's form", "TGI's form"])
def test_one_item_too_long_does_not_end_an_evaluation(refusing: Serving, refusal: tuple[int, Any]) -> None:
    model, asked = refusing(refusal)
    found = dict(model.answer(REQUESTS, Writing(8)))
    assert [found[n].failure for n in range(3)] == [None, "too long", None]
    # The text that a model here is given: no prompt ends in a space.
    assert sorted(asked) == ["q0:", "q1:", "q2:"] == [request.text for request in REQUESTS]


def test_other_refusals_end_it_unless_they_are_to_be_skipped(refusing: Serving) -> None:
    model, _ = refusing(FILTERED)
    with pytest.raises(
        InputError, match=r"question q1: server says 400: .*filtered.*; count such .* --skip-invalid"
    ):
        list(model.answer(REQUESTS, Writing(8)))
    found = dict(model.answer(REQUESTS, Writing(8, skip_invalid=True)))
    assert [found[n].failure for n in range(3)] == [None, "rejected", None]
    model, _ = refusing((422, {"error": "no such template"}))
    with pytest.raises(InputError, match=r"server says 422: .*no such template"):
        list(model.answer(REQUESTS, Writing(8)))


def test_an_item_too_long_is_no_answer_in_the_scores_and_not_asked_again(
    refusing: Serving, tmp_path: Path
) -> None:
    exam = own_exam(tmp_path / "exam.jsonl")
    settings = ExamSettings(benchmarks=[str(exam)], languages=["ja"], tracks=["answer"], selection="all")
    sat = papers(settings, Prompting(answer_as="letter"), Path("unused"))
    model, asked = refusing(OPENAI, sat[0].questions[2].stem)

    def sit() -> Any:
        [sitting] = sit_papers(sat, {"model": "m", "fingerprint": "served"}, lambda: model, tmp_path / "out")
        return sitting

    first = sit()
    [too_long] = first.failures.values()
    assert set(first.failures) == {"too long"} and 0 < len(too_long) < first.scores[0].n
    assert first.scores[0].no_answer == len(too_long)
    count = len(asked)
    assert sit().failures == first.failures and len(asked) == count
