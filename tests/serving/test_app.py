"""The routes of the server, with a scripted model."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from scripted_model import CHAT, THINKING, ScriptedModel

from jmedllm.serving.app import ROUTES, Service, create_app
from jmedllm.serving.fields import CHAT_FIELDS, COMPLETION_FIELDS, chat_request
from jmedllm.serving.guard import COOKIE
from jmedllm.serving.key import cookie_of
from jmedllm.serving.limits import Limits
from jmedllm.serving.model import Format

KEY = "k" * 43
PORT = 8080
ASK = {"messages": [{"role": "user", "content": "何?"}]}


@asynccontextmanager
async def connected(
    model: ScriptedModel, limits: Limits | None = None, **headers: str
) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Service(model, KEY, PORT, limits or Limits()))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    given = {"Authorization": f"Bearer {KEY}"} | headers
    async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{PORT}", headers=given) as client:
        yield client


def sent(
    path: str, body: Any = None, model: ScriptedModel | None = None, method: str | None = None, **headers: str
) -> httpx.Response:
    """Send one request."""

    async def send() -> httpx.Response:
        async with connected(model or ScriptedModel(), **headers) as client:
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            return await client.request(method or ("GET" if body is None else "POST"), path, content=content)

    return asyncio.run(send())


def chat(served: ScriptedModel | None = None, **fields: Any) -> Any:
    answer = sent("/v1/chat/completions", ASK | fields, served)
    assert answer.status_code == 200, answer.text
    return answer.json()


def events(answer: httpx.Response) -> list[Any]:
    assert answer.text.endswith("data: [DONE]\n\n")
    return [json.loads(line[6:]) for line in answer.text.split("\n\n")[:-2]]


# --- who may use it


@pytest.mark.parametrize("path", sorted(ROUTES))
def test_only_health_works_without_the_key(path: str) -> None:
    method = ROUTES[path][0]
    body = None if method == "GET" else ASK
    for other in ("OPTIONS", "PUT", "TRACE"):
        assert sent(path, method=other, Authorization="").status_code == 401
    for given in ("", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x"):
        answer = sent(path, body, Authorization=given)
        assert answer.status_code == (200 if path == "/health" else 401)
        assert "scripted" not in answer.text
        assert "access-control-allow-origin" not in answer.headers


def test_a_visit_with_the_key_sets_a_cookie_that_works_and_is_not_the_key() -> None:
    visit = sent(f"/?key={KEY}", Authorization="")
    assert (visit.status_code, visit.headers["location"]) == (303, "/")
    cookie = visit.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; ")) and KEY not in cookie
    name_and_value = cookie.split("; ")[0]
    assert sent("/v1/models", Authorization="", Cookie=f"a=b; {name_and_value}").status_code == 200
    assert sent("/v1/models", Authorization="", Cookie=f"{COOKIE}-8081={cookie_of(KEY)}").status_code == 401
    page = sent("/?key=wrong", Authorization="")
    assert (
        page.status_code == 401
        and "<form" in page.text
        and "default-src 'none'" in page.headers["content-security-policy"]
    )
    assert "<form" in sent("/", Authorization="").text and "set-cookie" not in sent("/", Authorization="").headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:9000"}, 200),  # a tunnel with another port
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "evil.example:8080"}, 403),  # DNS rebinding
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "127.0.0.1#evil.example"}, 403),
        ({"Host": "evil.example@127.0.0.1"}, 403),
        ({"Host": "127.0.0.1:8080/evil"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Origin": "http://127.0.0.1:8080"}, 200),
        ({"Origin": "http://127.0.0.1:9999"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[", }, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
    ],
)  # fmt: skip
def test_requests_from_elsewhere_are_refused(headers: dict[str, str], status: int) -> None:
    assert sent("/v1/models", **headers).status_code == status


# --- what is refused, in one line that names it


def deep(count: int) -> bytes:
    return b'{"messages": ' + b"[" * count + b"]" * count + b"}"


REFUSED: dict[str, tuple[Any, str]] = {
    "not JSON": (b"{", "not JSON"),
    "not UTF-8": (b'{"model": "\xff"}', "not JSON in UTF-8"),
    "a list": ([], "must be a JSON object; found list"),
    "deep": (deep(100_000), "nested too deeply"),
    "half a character": (b'{"messages": [{"role": "user", "content": "\\ud83d"}]}', "half a character"),
    "NUL": (ASK | {"user": "a\0b"}, "U+0000"),
    "NaN": (b'{"temperature": NaN}', "NaN is not a JSON number"),
    "huge number": (b'{"temperature": 1' + b"0" * 5000 + b"}", "not JSON"),
    "infinite": (ASK | {"temperature": 1e999}, "Infinity"),
    "unknown field": (ASK | {"temprature": 1}, "unknown field 'temprature'; this route takes"),
    "tools": (ASK | {"tools": [{"type": "function"}]}, "tools: takes [] only"),
    "n": (ASK | {"n": 2}, "n: takes 1 only; found 2"),
    "n as true": (ASK | {"n": True}, "n: takes 1 only; found true"),
    "temperature": (ASK | {"temperature": -0.1}, "temperature: takes 0 or a number from 1e-06 to 10; found -0.1"),
    "temperature of nothing": (ASK | {"temperature": 1e-320}, "0 or a number from 1e-06 to 10; found 1e-320"),
    "temperature as text": (ASK | {"temperature": "1"}, 'found "1"'),
    "top_p": (ASK | {"top_p": 0}, "top_p: takes a number above 0"),
    "max_tokens": (ASK | {"max_tokens": 0}, "max_tokens: takes a whole number from 1"),
    "max_tokens as true": (ASK | {"max_tokens": True}, "found true"),
    "both limits": (ASK | {"max_tokens": 1, "max_completion_tokens": 2}, "either max_tokens or"),
    "stop": (ASK | {"stop": [""]}, "stop: takes a text or a list of 1 to 16 texts"),
    "top_logprobs alone": (ASK | {"top_logprobs": 2}, "needs logprobs"),
    "no messages": ({}, "messages: is missing or empty"),
    "empty messages": ({"messages": []}, "messages: is missing or empty"),
    "message of text": ({"messages": ["何?"]}, "messages[0]: takes an object"),
    "no role": ({"messages": [{"content": "a"}]}, "messages[0].role"),
    "role of another kind": ({"messages": [{"role": ["user"], "content": "a"}]}, "messages[0].role"),
    "no content": ({"messages": [{"role": "user"}]}, "messages[0].content: takes a text; found null"),
    "content as number": ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
    "picture": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
        "messages[0].content: this model reads text only; found a part of the type 'image_url'",
    ),
    "tool call": ({"messages": [{"role": "assistant", "content": "a", "tool_calls": [{}]}]}, "messages[0].tool_calls"),
    "refused by the template": ({"messages": [{"role": "nurse", "content": "a"}]}, "this conversation: only user"),
    "reserved variable": (ASK | {"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs.messages"),
    "unknown variable": (ASK | {"chat_template_kwargs": {"enable_thinkin": True}}, "enable_thinkin"),
    "choice alone": (ASK | {"structured_outputs": {"regex": "a"}}, "takes only the key choice"),
    "no choices": (ASK | {"structured_outputs": {"choice": []}}, "choice: takes a list of 1 to 100"),
    "a choice twice": (ASK | {"structured_outputs": {"choice": ["a", "a"]}}, "the same choice twice"),
    "choice and stop": (ASK | {"structured_outputs": {"choice": ["a"]}, "stop": "b"}, "stop: has no effect"),
    "choice and top_k": (ASK | {"structured_outputs": {"choice": ["a"]}, "top_k": 3}, "top_k: has no effect"),
    "too long": (ASK | {"max_tokens": 500}, "the prompt has 11 tokens and max_tokens is 500; together they exceed the "
                 "context length of 200 tokens"),
    "too long a prompt": ({"messages": [{"role": "user", "content": "あ" * 300}]}, "the prompt has 309 tokens"),
}  # fmt: skip
STRICT = "{% if messages[0].role not in ['user', 'assistant'] %}{{ raise_exception('only user') }}{% endif %}" + CHAT


@pytest.mark.parametrize("name", REFUSED)
def test_a_request_is_refused_in_one_line(name: str) -> None:
    body, message = REFUSED[name]
    model = ScriptedModel(format=Format(STRICT, ends=(0,)))
    answer = sent("/v1/chat/completions", body, model)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert message in error["message"] and "\n" not in error["message"] and len(error["message"]) < 600
    assert error["type"] == "invalid_request_error"
    assert model.prompts == []
    if name.startswith("too long"):
        assert error["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("path", "body", "method", "status", "message"),
    [
        ("/v1/chat/completions", ASK | {"model": "gpt-4"}, None, 404, "this server has 'scripted', not 'gpt-4'"),
        ("/v1/nothing", None, None, 404, "there is no /v1/nothing here"),
        ("/v1/chat/completions", None, "GET", 405, "GET is not allowed here"),
        ("/v1/chat/completions", b" " * (5 * 2**20), None, 413, "larger than 4 MiB"),
        ("/v1/completions", {"prompt": ""}, None, 400, "prompt: is missing or empty"),
        ("/v1/completions", {"prompt": [5, 2**31 - 2]}, None, 400, "prompt: this model has no token 2,147,483,646"),
        ("/v1/completions", {"prompt": "a", "structured_outputs": {"choice": ["a", "b" * 200]}}, None, 400,
         "the prompt has 2 tokens and the longest choice 200; together they exceed the context length of 200 tokens"),
        ("/v1/completions", {"prompt": [-1]}, None, 400, "prompt: takes a text or a list of token ids"),
        ("/v1/completions", {"prompt": ["a", "b"]}, None, 400, "prompt: takes a text"),
        ("/v1/completions", {"prompt": "a", "echo": True}, None, 400, "echo: takes false only"),
        ("/tokenize", {}, None, 400, "give either prompt or messages"),
    ],
)  # fmt: skip
def test_other_refusals(path: str, body: Any, method: str | None, status: int, message: str) -> None:
    answer = sent(path, body, method=method)
    assert answer.status_code == status and message in answer.json()["error"]["message"]


def test_a_body_that_is_announced_as_too_large_is_refused_before_it_arrives() -> None:
    answer = sent("/v1/completions", b"{}", **{"Content-Length": "99999999999"})
    assert answer.status_code == 413


def test_the_text_of_an_escape_is_no_nul() -> None:
    model = ScriptedModel()
    chat(model, messages=[{"role": "user", "content": r"\u0000 and \\u0000"}])
    assert model.prompts == [r"<user>\u0000 and \\u0000<a>"]
    twice = {"messages": [{"role": "user", "content": "\\\0"}]}
    assert "U+0000" in sent("/v1/chat/completions", twice).text


# --- answers


def test_an_answer_whole_and_as_a_stream() -> None:
    model = ScriptedModel(script="はい。\u2028次")
    whole = chat(model, model="scripted", user="u", n=1, presence_penalty=0, tools=[], temperature=None)
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "はい。\u2028次"}
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"]["prompt_tokens"] == len("<user>何?<a>") and whole["usage"]["completion_tokens"] == 6
    assert model.prompts == ["<user>何?<a>"]
    streamed = sent("/v1/chat/completions", ASK | {"stream": True, "stream_options": {"include_usage": True}}, model)
    assert streamed.text.isascii()
    first, *parts, last, usage = events(streamed)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [part["choices"][0]["delta"]["content"] for part in parts] == list("はい。\u2028次")
    assert last["choices"][0]["finish_reason"] == "stop" and last["choices"][0]["delta"] == {}
    assert usage["usage"] == whole["usage"] and usage["choices"] == []
    assert {each["id"] for each in (first, *parts, last, usage)} == {streamed.headers["x-request-id"]}


def test_parts_of_text_are_one_text_and_empty_keys_of_answers_are_dropped() -> None:
    model = ScriptedModel()
    parts = [{"type": "text", "text": "何"}, {"type": "text", "text": "?"}]
    messages = [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": "a", "tool_calls": [], "refusal": None},
    ]
    assert sent("/v1/chat/completions", {"messages": messages}, model).status_code == 200
    assert model.prompts == ["<user>何?<assistant>a<a>"]


def test_a_model_without_a_template_gets_the_texts() -> None:
    model = ScriptedModel(format=Format(None))
    chat(model)
    assert model.prompts == ["\x01何?"]
    assert sent("/v1/chat/completions", ASK | {"chat_template_kwargs": {"a": 1}}, model).status_code == 400


@pytest.mark.parametrize(
    ("fields", "text", "finish", "tokens"),
    [
        ({"max_tokens": 2}, "はい", "length", 2),
        ({"max_tokens": 3}, "はい。", "length", 3),  # the end did not fit
        ({"max_completion_tokens": 4}, "はい。", "stop", 4),
        ({"stop": "。"}, "はい", "stop", 3),
        ({"stop": ["x", "い。"]}, "は", "stop", 3),
        ({"stop": ["。。"]}, "はい。", "stop", 4),
    ],
)
def test_why_an_answer_ended(fields: dict[str, Any], text: str, finish: str, tokens: int) -> None:
    model = ScriptedModel()
    answer = chat(model, **fields)
    choice = answer["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, finish)
    assert answer["usage"]["completion_tokens"] == tokens and model.running == 0
    parts = events(sent("/v1/chat/completions", ASK | fields | {"stream": True}))
    assert "".join(part["choices"][0]["delta"].get("content", "") for part in parts) == text


def test_thoughts_are_apart_and_stop_texts_do_not_end_them() -> None:
    model = ScriptedModel(script="<think>\n考え。\n</think>\n\nb。", format=Format(THINKING, ends=(0,)))
    answer = chat(model, stop="。", logprobs=True)
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "b", "reasoning_content": "考え。"}
    assert [each["token"] for each in answer["choices"][0]["logprobs"]["content"]] == ["b"]
    assert 0 < answer["usage"]["completion_tokens_details"]["reasoning_tokens"] < answer["usage"]["completion_tokens"]
    parts = events(sent("/v1/chat/completions", ASK | {"stream": True}, model))
    deltas = [part["choices"][0]["delta"] for part in parts]
    assert "".join(each.get("reasoning_content", "") for each in deltas) == "考え。"
    assert "".join(each.get("content", "") for each in deltas) == "b。"
    off = chat(model, chat_template_kwargs={"enable_thinking": False})  # a closed thought in the prompt
    assert off["choices"][0]["message"]["content"] == model.script


def test_log_probabilities_of_tokens() -> None:
    content = chat(logprobs=True, top_logprobs=1)["choices"][0]["logprobs"]["content"]
    assert [each["token"] for each in content] == list("はい。")
    assert content[0]["id"] == ord("は") and bytes(content[0]["bytes"]).decode() == "は"
    assert content[0]["top_logprobs"][0]["logprob"] == content[0]["logprob"] == -0.5
    legacy = sent("/v1/completions", {"prompt": "何", "logprobs": 1}).json()["choices"][0]
    assert legacy["text"] == "はい。" and legacy["logprobs"]["tokens"] == list("はい。")
    assert legacy["logprobs"]["text_offset"] == [0, 1, 2]
    assert legacy["logprobs"]["top_logprobs"][0] == {"は": -0.5}


def test_sampling_settings_are_of_the_type_that_backends_take() -> None:
    settings = {"temperature": 1, "top_p": 1, "min_p": 0, "repetition_penalty": 1, "top_k": 5, "seed": 3}
    read = chat_request(json.dumps(ASK | settings).encode()).sampling
    assert read == settings
    assert [type(read[name]) for name in settings] == [float, float, float, float, int, int]


CHOICES = {"structured_outputs": {"choice": ["bb", "a", "ccc"]}, "logprobs": True}


def probabilities(answer: Any) -> dict[str, float]:
    (entry,) = answer["choices"][0]["logprobs"]["content"]
    return {each["token"]: math.exp(each["logprob"]) for each in entry["top_logprobs"]}


def test_an_answer_that_is_a_choice() -> None:
    answer = chat(**CHOICES)
    assert answer["choices"][0]["message"]["content"] == "a" and answer["choices"][0]["finish_reason"] == "stop"
    found = probabilities(answer)
    assert list(found) == ["a", "bb", "ccc"] and sum(found.values()) == pytest.approx(1)
    assert found["a"] / found["bb"] == pytest.approx(math.e)
    streamed = events(sent("/v1/chat/completions", ASK | CHOICES | {"stream": True}))
    assert [part["choices"][0]["delta"].get("content") for part in streamed] == ["", "a", None]
    sampled = {chat(**CHOICES, temperature=1, seed=seed)["choices"][0]["message"]["content"] for seed in range(30)}
    assert sampled == {"a", "bb", "ccc"}
    assert len({chat(**CHOICES, temperature=1, seed=7)["choices"][0]["message"]["content"] for _ in range(5)}) == 1
    text = sent("/v1/completions", {"prompt": "何", "structured_outputs": {"choice": ["b", "a"]}}).json()
    assert text["choices"][0]["text"] == "b"  # the first of two that are equal


def test_a_choice_that_begins_another_ends_where_the_answer_ends() -> None:
    model = ScriptedModel(score_of=lambda text: {"a\0": -5.0, "ab\0": -1.0}[text])
    answer = chat(model, structured_outputs={"choice": ["a", "ab"]}, logprobs=True)
    assert answer["choices"][0]["message"]["content"] == "ab"


def test_a_choice_that_does_not_fit_after_a_thought_is_said() -> None:
    model = ScriptedModel("<think>" + "考" * 100 + "</think>", Format(THINKING, ends=(0,)))
    fields = ASK | {"structured_outputs": {"choice": ["a", "b" * 80]}, "stream": True}
    streamed = sent("/v1/chat/completions", fields, model)
    last = json.loads(streamed.text.strip().split("\n\n")[-1][6:])
    assert "考" * 100 not in streamed.text and "DONE" not in streamed.text
    assert "longest choice 80; together" in last["error"]["message"]
    assert sent("/v1/chat/completions", fields | {"stream": False}, model).status_code == 400


@pytest.mark.parametrize(
    ("script", "variables", "scored", "thought", "content"),
    [
        ("<think>考え</think>\n\nzz", {}, "<user>何?<a><think>考え</think>\n\n", "考え", "a"),
        ("zz", {}, "<user>何?<a>", None, "a"),
        ("<think>考え", {}, None, "考え", ""),  # no answer within the limit
        ("<think>考え</think>", {}, "<user>何?<a><think>考え</think>", "考え", "a"),
        ("zz", {"enable_thinking": False}, "<user>何?<a><think></think>", None, "a"),
    ],
)
def test_a_choice_after_a_thought(
    script: str, variables: dict[str, Any], scored: str | None, thought: str | None, content: str
) -> None:
    model = ScriptedModel(script=script, format=Format(THINKING, ends=(0,)))
    answer = chat(model, **CHOICES, chat_template_kwargs=variables, max_tokens=len(script) + (scored is not None))
    message = answer["choices"][0]["message"]
    assert (message.get("reasoning_content"), message["content"]) == (thought, content)
    assert answer["choices"][0]["finish_reason"] == ("length" if scored is None else "stop")
    assert scored is None or model.prompts[-1] == scored
    assert model.running == 0


# --- many at a time, and what goes wrong


def test_requests_wait_for_a_slot_and_a_full_queue_is_said() -> None:
    async def run() -> list[httpx.Response]:
        async with connected(ScriptedModel(pause_s=0.01), Limits(queue=2)) as client:
            asks = [client.post("/v1/chat/completions", json=ASK) for _ in range(5)]
            answers = list(await asyncio.gather(*asks))
            metrics = (await client.get("/metrics")).text
            assert 'requests_total{route="POST /v1/chat/completions",status="200"} 3' in metrics
            assert 'requests_total{route="POST /v1/chat/completions",status="503"} 2' in metrics
            assert "jmedllm_slots_busy 0" in metrics and "jmedllm_completion_tokens_total 12" in metrics
            assert "はい" not in metrics and "何" not in metrics
            return answers

    answers = asyncio.run(run())
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 503, 503]
    full = next(answer for answer in answers if answer.status_code == 503)
    assert full.headers["retry-after"] == "5" and "retry later" in full.json()["error"]["message"]


@pytest.mark.parametrize("model", [ScriptedModel(fails_after=1), ScriptedModel(pause_s=0.2)], ids=["lost", "slow"])
def test_an_answer_that_is_cut_never_looks_whole(model: ScriptedModel) -> None:
    async def run(stream: bool) -> httpx.Response:
        async with connected(model, Limits(answer_s=0.3)) as client:
            return await client.post("/v1/chat/completions", json=ASK | {"stream": stream})

    whole = asyncio.run(run(False))
    assert whole.status_code == 503 and "choices" not in whole.text
    streamed = asyncio.run(run(True))
    last = json.loads(streamed.text.strip().split("\n\n")[-1][6:])
    assert "DONE" not in streamed.text and last["error"]["type"] == "server_error"
    assert model.running == 0


def test_log_lines_have_no_text(capsys: pytest.CaptureFixture[str]) -> None:
    sent("/v1/chat/completions", ASK)
    sent(f"/?key={KEY}")
    sent("/secret-name?x=秘密")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and "POST /v1/chat/completions 200 prompt=11 completion=4" in lines[0]
    assert not any(word in "".join(lines) for word in ("何", "はい", KEY, "secret", "秘密"))


def test_an_answer_arrives_if_the_log_of_prompts_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = create_app(Service(ScriptedModel(), KEY, PORT, prompt_log=tmp_path))

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
            return await client.post("/v1/chat/completions", json=ASK)

    assert asyncio.run(send()).status_code == 200
    assert f"is not in the log of prompts: cannot write {tmp_path}" in capsys.readouterr().err


def test_every_field_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs/serve.md").read_text(encoding="utf-8")
    for path in ROUTES:
        assert path in page
    assert {"structured_outputs", "chat_template_kwargs"} <= CHAT_FIELDS.keys() and "prompt" in COMPLETION_FIELDS
