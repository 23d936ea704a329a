"""`jmedllm deploy serve` as a program: a tiny model in llama.cpp, and transformers as the oracle."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("starlette")

from jmedllm.errors import InputError
from jmedllm.serving.own_server import own_server

pytestmark = pytest.mark.slow

QUESTION = [{"role": "user", "content": "高血圧とは何ですか? 🩺"}]
LONG = {"prompt": "hypertension", "max_tokens": 3000, "stream": True}
"""The model repeats itself without end here."""


@dataclass
class Running:
    """A server of its own process."""

    process: "subprocess.Popen[str]"
    url: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def child(self) -> int:
        file = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(file.read_text().split()[0])

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics", headers=self.headers).text
        return float(next(line for line in text.splitlines() if line.startswith(f"{name} ")).split()[-1])

    def ask(self, **fields: Any) -> httpx.Response:
        body = {"messages": QUESTION, "max_tokens": 4} | fields
        return httpx.post(f"{self.url}/v1/chat/completions", headers=self.headers, json=body, timeout=60)

    @contextmanager
    def stream(self) -> Iterator[Iterator[str]]:
        """Yield the events of a long answer, after its first part."""
        sent = {"url": f"{self.url}/v1/completions", "headers": self.headers, "json": LONG, "timeout": 60}
        with httpx.stream("POST", **sent) as answer:
            events = (line for line in answer.iter_lines() if line)
            next(events), next(events)
            yield events


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from jmedllm.models.random_init import RandomInit, build

    sizes = {"vocabulary": 320, "hidden_size": 32, "layers": 2, "feed_forward": 64, "context": 4096}
    shape = RandomInit(architecture="qwen2", chat_template=True, **sizes)
    folder = tmp_path_factory.mktemp("serve") / "tiny"
    build(shape, ["高血圧の患者に利尿薬を投与した。", "The patient has hypertension."] * 20, folder, 1)
    return folder


@pytest.fixture(scope="module")
def file(model: Path) -> Path:
    """The model in float32, so that it can be compared with transformers."""
    from jmedllm.deploy.gguf.source import open_source
    from jmedllm.deploy.gguf.types import FILE_TYPES
    from jmedllm.deploy.gguf.vocabulary import vocabulary
    from jmedllm.deploy.gguf.write import write_gguf
    from jmedllm.precision import choose_precision

    with open_source(str(model), None, choose_precision("auto", "cpu")) as source:
        tokens = vocabulary(source.tokenizer, source.config.vocab_size, source.ends)
        write_gguf(model, source.config, tokens, "qwen2", FILE_TYPES["f32"], model.parent / "tiny.gguf", {})
    return model.parent / "tiny.gguf"


@contextmanager
def started(file: Path, *options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "jmedllm", "deploy", "serve", str(file), "--port=0", "--threads=1", "--trust"]
    environment = os.environ | {"XDG_CONFIG_HOME": str(file.parent / "config")}
    with subprocess.Popen(
        [*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            url, _, key = process.stdout.readline().removeprefix("browser: ").strip().partition("/?key=")
            yield Running(process, url, key)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(file: Path) -> Iterator[Running]:
    with started(file) as running:
        yield running


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(done: Any, seconds: float = 20) -> None:
    limit = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_answers_and_probabilities_are_those_of_transformers(model: Path, server: Running) -> None:
    import torch
    from openai import OpenAI
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model).eval()
    prompt = tokenizer.apply_chat_template(QUESTION, tokenize=False, add_generation_prompt=True)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]

    @torch.no_grad()
    def logprobs(tokens: list[int]) -> list[float]:
        rows = network(torch.tensor([[*ids, *tokens]])).logits[0, len(ids) - 1 : -1].log_softmax(-1)
        return [float(rows[place, token]) for place, token in enumerate(tokens)]

    listed = httpx.post(f"{server.url}/tokenize", headers=server.headers, json={"messages": QUESTION}).json()
    assert listed["tokens"] == ids
    client = OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)
    asked: dict[str, Any] = {"model": client.models.list().data[0].id, "messages": QUESTION}
    greedy = client.chat.completions.create(**asked, max_tokens=24, logprobs=True)
    written = network.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)[0, len(ids) :]
    assert greedy.choices[0].message.content == tokenizer.decode(written, skip_special_tokens=True).rstrip("\ufffd")
    assert [each.model_extra["id"] for each in greedy.choices[0].logprobs.content] == written.tolist()
    random = asked | {"max_tokens": 4, "temperature": 2, "logprobs": True, "top_logprobs": 2}
    for seed in range(37, 400):  # an answer with a character of several tokens, and without invalid bytes
        random["seed"] = seed
        whole = client.chat.completions.create(**random)
        tokens = whole.choices[0].logprobs.content
        is_valid = "\ufffd" not in whole.choices[0].message.content
        if is_valid and any(each.token.startswith("bytes:") for each in tokens):
            break
    else:
        pytest.fail("no such answer")
    assert [each.logprob for each in tokens] == pytest.approx(
        logprobs([each.model_extra["id"] for each in tokens]), abs=1e-4
    )
    assert b"".join(bytes(each.bytes) for each in tokens).decode() == whole.choices[0].message.content
    assert all(len(each.top_logprobs) == 2 for each in tokens)
    parts = client.chat.completions.create(**random, stream=True)
    streamed = [part.choices[0] for part in parts]
    assert "".join(part.delta.content or "" for part in streamed) == whole.choices[0].message.content
    assert [each.token for part in streamed if part.logprobs for each in part.logprobs.content] == [
        each.token for each in tokens
    ]
    texts = ["a", "利尿薬", "🩺", "The patient"]
    chosen = client.chat.completions.create(
        **asked, logprobs=True, extra_body={"structured_outputs": {"choice": texts}}
    )
    top = {each.token: each.logprob for each in chosen.choices[0].logprobs.content[0].top_logprobs}
    scores = [sum(logprobs(tokenizer(text, add_special_tokens=False)["input_ids"])) for text in texts]
    assert [top[text] for text in texts] == pytest.approx(torch.tensor(scores).log_softmax(-1).tolist(), abs=1e-3)
    assert chosen.choices[0].message.content == max(top, key=lambda each: top[each])
    assert sum(map(math.exp, top.values())) == pytest.approx(1)


def test_a_client_that_leaves_frees_its_slot(server: Running) -> None:
    with server.stream():
        assert server.metric("jmedllm_slots_busy") == 1
    wait_until(lambda: server.metric("jmedllm_slots_busy") == 0, 5)
    assert server.ask().status_code == 200


@pytest.mark.exhaustive
def test_many_at_a_time_are_all_answered_alike_with_one_slot(file: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with started(file, "--slots", "1") as running, ThreadPoolExecutor(8) as pool:
        texts = [f"患者{number}" for number in range(4)] * 3

        def ask(text: str) -> str:
            answer = running.ask(messages=[{"role": "user", "content": text}], max_tokens=6).json()
            return answer["choices"][0]["message"]["content"]

        answers = list(pool.map(ask, texts))
        assert answers[:4] == answers[4:8] == answers[8:]


def test_a_lost_process_of_llama_cpp_is_started_again(server: Running) -> None:
    with server.stream() as events:
        os.kill(server.child, signal.SIGABRT)
        last = list(events)[-1]
    assert "llama.cpp ended during this answer" in json.loads(last.removeprefix("data: "))["error"]["message"]
    answers = []

    def is_back() -> bool:
        answers.append(server.ask())
        return answers[-1].status_code == 200

    wait_until(is_back)
    assert all(answer.status_code == 503 and "retry-after" in answer.headers for answer in answers[:-1])


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive)])
def test_a_signal_lets_running_answers_end(file: Path, number: int) -> None:
    with started(file) as running:
        child = running.child
        with running.stream() as events:
            running.process.send_signal(number)
            os.kill(child, number)  # as a service manager does
            assert list(events)[-1] == "data: [DONE]"
        assert running.process.wait(20) == 0
        assert not is_alive(child)


@pytest.mark.exhaustive
def test_nothing_is_left_of_a_killed_server(file: Path) -> None:
    with started(file) as running:
        child = running.child
        with pytest.raises(httpx.HTTPError), running.stream() as events:
            running.process.kill()
            list(events)
        wait_until(lambda: not is_alive(child))


@pytest.mark.exhaustive
def test_an_evaluation_through_the_server(file: Path, server: Running, tmp_path: Path, cli: Any) -> None:
    os.environ["JMEDLLM_API_KEY"] = server.key
    try:
        code, _, errors = cli(
            "eval", "--backend", "openai", "--server", f"{server.url}/v1", "--model", "tiny", "--benchmark", "demo:ja",
            "--limit", 3, "--scorer", "answer", "--constrain", "--output", tmp_path / "out",
        )  # fmt: skip
    finally:
        del os.environ["JMEDLLM_API_KEY"]
    assert code == 0, errors
    samples = [json.loads(line) for line in (tmp_path / "out/demo.ja.samples.jsonl").read_text().splitlines()]
    assert len(samples) == 3


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, (), "none.gguf: no such file"),
        (b"GGUF", (), "was not exported here"),
        (b"GGUF", ("--trust",), "not a GGUF file, or damaged"),
        (b"", ("--trust",), "not a GGUF file, or damaged"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    content: bytes | None, options: tuple[str, ...], message: str, tmp_path: Path, cli: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "none.gguf"
    if content is not None:
        path.write_bytes(content)
    code, _, errors = cli("deploy", "serve", path, "--port", 0, *options)
    assert code == 2 and message in errors and "Traceback" not in errors


def test_a_chat_with_what_cannot_be_served_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "other.gguf").write_bytes(b"other")
    with pytest.raises(InputError, match=r"other\.gguf: was not exported here"), own_server(tmp_path / "other.gguf"):
        pass
