"""Commands against servers that attack: one line, in time, and nothing of it controls the terminal."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli, write_questions
from hostile_server import (
    BODY,
    CHUNKED,
    JSON,
    KEY,
    OK,
    Attack,
    attacking,
    bomb,
    cut,
    endless,
    redirect,
    reply,
    said,
    silent,
)
from jmedllm.deploy.endpoint import Endpoint
from jmedllm.errors import InputError
from jmedllm.evaluation.records import read_samples
from jmedllm.named_server import ClientOptions
from jmedllm.serving.client import ChatClient

ERROR = {"error": {"message": f"\x1b]0;owned\x07\u202e wrong key {KEY}"}}
SPELLED = KEY.replace("s", "\\u0073").replace("-", "\\u002d")

FATAL: dict[str, tuple[Attack, str]] = {
    "redirect to another host": (redirect("http://evil.example/v1"), "redirects to http://evil.example/v1; redirects"),
    "redirect of a form": (redirect("https://evil.example", "303 See Other"), "redirects to https://evil.example;"),
    "redirect to a file": (redirect("file:///etc/passwd", "301 Moved"), "redirects to file:///etc/passwd;"),
    "redirect to itself": (redirect("/v1/completions"), "redirects to /v1/completions;"),
    "redirect to nowhere": (reply(b"", status="302 Found"), "redirects to nowhere;"),
    "gzip bomb": (bomb("gzip"), "compresses its reply (gzip)"),
    "deflate bomb": (bomb("deflate"), "compresses its reply (deflate)"),
    "brotli": (bomb("br"), "compresses its reply (br)"),
    "two encodings": (bomb("gzip, gzip"), "compresses its reply (gzip, gzip)"),
    "endless body": (endless(BODY, b" " * 65536), "its reply is larger than 1 MiB"),
    "endless chunks": (endless(CHUNKED, b"10000\r\n" + b" " * 65536 + b"\r\n"), "its reply is larger than 1 MiB"),
    "endless extensions of chunks": (
        endless(CHUNKED, b"1;" + b"a" * 60000 + b"\r\n \r\n"),
        "its reply is larger than 1 MiB",
    ),
    "promises a terabyte": (
        endless(OK + JSON + b"Content-Length: 1099511627776\r\n\r\n", b" " * 65536),
        "larger than",
    ),
    "endless interim replies": (
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        "its reply is larger than 1 MiB",
    ),
    "dripping body": (endless(BODY, b" ", 0.02), "its reply has not ended after 2 seconds; allow more with --timeout"),
    "dripping chunks": (endless(CHUNKED, b"1\r\n \r\n", 0.02), "its reply has not ended after 2 seconds"),
    "dripping header": (endless(OK + b"X: ", b"a", 0.02), "its reply has not ended after 2 seconds"),
    "dripping status line": (endless(b"HTTP/1.1 200 O", b"K", 0.02), "its reply has not ended after 2 seconds"),
    "stops in the middle": (endless(BODY + b'{"choices"', b"", 0.02), "its reply has not ended after 2 seconds"),
    "deep list": (reply(b"[" * 100_000 + b"]" * 100_000), "its reply is nested too deeply"),
    "deep object": (reply(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "its reply is nested too deeply"),
    "pause of 30 years": (
        reply(b"{}", "Retry-After: 1000000000", status="429 Busy"),
        "asks for a pause of 1,000,000,000",
    ),
    "endless pause": (reply(b"{}", "Retry-After: inf", status="503 Busy"), "asks for a pause of"),
}
"""Attacks that end an evaluation at once: what the server sends, and what the line has."""

RETRIED: dict[str, tuple[Attack, str]] = {
    "silence": (silent, "no reply within 1 seconds"),
    "hangs up": (cut(b""), "is it running?"),
    "is not HTTP": (cut(b"\x16\x03\x01\x02\x00\x01"), "is it running?"),
    "cut in the middle": (cut(OK + JSON + b'Content-Length: 99\r\n\r\n{"choices": [{"te'), "82 bytes are missing"),
    "cut in a chunk": (cut(CHUNKED + b'ff\r\n{"choices"'), "is it running?"),
    "endless header": (endless(OK + b"X: ", b"a" * 60000), "is it running?"),
    "endless headers": (endless(OK, b"X: a\r\n" * 1000), "is it running?"),
    "negative length": (reply(b"{}", "Content-Length: -1", length=False), "it has no text"),
    "a page": (reply(b"<html>login</html>", kind="text/html"), "is that the right address?"),
    "a page that says JSON": (reply(b"<html>login</html>"), "is that the right address?"),
    "not UTF-8": (reply(b'{"choices": [{"text": "\xff\xfe"}]}'), "is that the right address?"),
    "no choices": (reply(b'{"choices": []}'), "it has no text"),
    "a number": (reply(b"7"), "is that the right address?"),
    "a long number": (reply(b'{"choices": ' + b"9" * 5000 + b"}"), "is that the right address?"),
    "choices of another kind": (reply(b'{"choices": {"a": 1}}'), "is that the right address?"),
    "pause that is no number": (reply(b"{}", "Retry-After: nan", status="503 Busy"), "answers 503"),
    "pause to a wrong date": (reply(b"{}", "Retry-After: Mon, 99 Jan 99999 00:00:00 -0000", status="503 Busy"), "503"),
    "pause without a zone": (reply(b"{}", "Retry-After: Mon, 01 Jan 2024 00:00:00 -0000", status="503 Busy"), "503"),
    "key and escapes in an error": (
        reply(json.dumps(ERROR).encode(), status="401 No"),
        "\\u001b]0;owned\\u0007\\u202e",
    ),
    "key in the words of the status": (reply(b"", status=f"401 {KEY}\x1b[2J"), "answers 401"),
    "key in an error that is no JSON": (
        reply(f"wrong {KEY}".encode(), status="403 No", kind="text/plain"),
        "[API key]",
    ),
    "key spelled in escapes": (reply(f'{{"error": "{SPELLED}"}}'.encode(), status="403 No"), "[API key]"),
}
"""Attacks after which the request is sent again, in vain."""


USUAL = (
    *("redirect to another host", "gzip bomb", "endless chunks", "dripping body", "deep list", "pause of 30 years"),
    *("hangs up", "a page", "a long number", "key and escapes in an error", "key spelled in escapes"),
)


def attacks() -> list[Any]:
    marks = {name: [] if name in USUAL else [pytest.mark.exhaustive] for name in FATAL | RETRIED}
    return [pytest.param(name, marks=marks[name], id=name) for name in marks]


def command(url: str, folder: Path, *options: object) -> list[object]:
    exam = write_questions(folder / "exam.jsonl", count=2)
    given = ("eval", "--backend", "openai", "--server", f"{url}/v1", "--model", "m", "--benchmark", exam)
    return [*given, "--language", "ja", "--selection", "all", "--output", folder / "out", "--batch-size", 2, *options]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a key, and shorten the waits between attempts, which a user is given in seconds."""
    monkeypatch.setenv("JMEDLLM_API_KEY", KEY)
    for name, value in {"RETRIES": 2, "FIRST_WAIT_S": 0.01, "LONGEST_WAIT_S": 0.02}.items():
        monkeypatch.setattr(f"jmedllm.models.backends.openai.throttle.{name}", value)
    monkeypatch.setattr("jmedllm.models.backends.openai.server.CHECK_WAIT_S", 0.01)


def limit_of(words: str) -> int:
    """The time limit of an attack in seconds: that in its line, else so long that no attack reaches it."""
    found = re.search(r"(\d+) seconds", words)
    return int(found[1]) if found else 60


def require_one_line(code: int, printed: str, words: str) -> None:
    assert code == 2, printed
    assert words in printed
    assert sum(line.startswith("error:") for line in printed.splitlines()) == 1
    assert "Traceback" not in printed
    assert KEY not in printed
    assert not {"\x1b", "\x07", "\u202e"} & set(printed)


@pytest.mark.parametrize("attack", attacks())
def test_an_attack_ends_an_evaluation_in_one_line(cli: Cli, tmp_path: Path, attack: str) -> None:
    does, words = (FATAL | RETRIED)[attack]
    with attacking(does) as server:
        limits = ("--timeout", limit_of(words), "--max-reply", 1)
        code, output, errors = cli(*command(server.url, tmp_path, "--scorer", "answer", *limits))
    require_one_line(code, output + errors, words)


@pytest.mark.parametrize("attack", ["redirect to another host", "gzip bomb", "endless chunks", "deep list"])
def test_an_attack_on_the_first_contact_ends_it(cli: Cli, tmp_path: Path, attack: str) -> None:
    does, words = FATAL[attack]
    with attacking(does, polite=False) as server:
        code, output, errors = cli(*command(server.url, tmp_path, "--scorer", "answer", "--max-reply", 1))
        require_one_line(code, output + errors, words)
        assert len(server.seen) == 1


def test_eight_attacks_at_once_lose_nothing_that_was_answered(cli: Cli, tmp_path: Path) -> None:
    attacks = [
        *(silent, endless(BODY, b" ", 0.02), endless(OK + b"X: ", b"a", 0.02), endless(CHUNKED, b"1\r\n \r\n", 0.02)),
        *(bomb("gzip"), endless(BODY, b" " * 65536), redirect("http://evil.example"), cut(BODY + b'{"ch')),
    ]
    turn = iter([said("c"), said("c"), *attacks])
    with attacking(lambda connection: next(turn, silent)(connection)) as server:
        asked = command(server.url, tmp_path, "--scorer", "answer", "--timeout", 1, "--max-reply", 1)
        asked[asked.index("--batch-size") + 1] = 8
        write_questions(tmp_path / "exam.jsonl", count=20)
        code, output, errors = cli(*asked)
    require_one_line(code, output + errors, "The responses so far are kept")
    kept = tmp_path / "out" / "exam.ja.samples.jsonl"
    answered = len(read_samples(kept)) if kept.exists() else 0  # 2, unless this machine was too busy
    with attacking(said("c")) as server:
        asked[asked.index("--server") + 1] = f"{server.url}/v1"
        asked[asked.index("--timeout") + 1] = 60
        code, output, errors = cli(*asked)
        assert code == 0, errors
        assert sum(request.startswith("POST") for request in server.seen) == 20 - answered


def listed(log_probs: str) -> Attack:
    """Reply with log-probabilities as JSON."""
    body = f'{{"choices": [{{"text": "a", "finish_reason": "stop", "logprobs": {{"top_logprobs": [{log_probs}]}}}}]}}'
    return reply(body.encode())


VALUES: dict[str, tuple[str, Attack, str | None]] = {
    "half a surrogate": ("answer", reply(b'{"choices": [{"text": "a\\ud800", "finish_reason": "stop"}]}'), None),
    "the key": ("answer", said(f"a {KEY}"), None),
    "escapes": ("answer", said("a \x1b]0;owned\x07\u202e"), None),
    "a list as text": ("answer", said(["a"]), None),
    "an object as end": ("answer", said("a", finish_reason={"a": 1}), "finish_reason is not a text"),
    "a number as end": ("answer", said("a", finish_reason=3), "finish_reason is not a text"),
    "impossible counts": ("answer", said("a", usage={"completion_tokens": -5}), None),
    "NaN": ("likelihood", listed('{"a": NaN}'), "the log-probability of 'a' is nan"),
    "infinity": ("likelihood", listed('{"a": 1e999}'), "the log-probability of 'a' is inf"),
    "a long integer": ("likelihood", listed(f'{{"a": -1{"0" * 400}}}'), "the log-probability of 'a' is not a number"),
    "null": ("likelihood", listed('{"a": null}'), "the log-probability of 'a' is not a number"),
    "an excluded token": ("likelihood", listed('{"b": -Infinity, "a": -1.0}'), None),
    "log-probabilities of another kind": ("likelihood", said("a", logprobs=[1]), "is that the right address?"),
}
"""Replies with values that nobody expects: the scorer, the reply, and what the line has; None if it is an answer."""


@pytest.mark.parametrize("value", VALUES)
def test_a_value_that_nobody_expects(cli: Cli, tmp_path: Path, value: str) -> None:
    scorer, does, words = VALUES[value]
    with attacking(does) as server:
        code, output, errors = cli(*command(server.url, tmp_path, "--scorer", scorer, "--answer-as", "letter"))
    if words is not None:
        require_one_line(code, output + errors, words)
        return
    assert code == 0, errors
    assert ("its reply has the API key, which is left out" in errors) == (value == "the key")
    files = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert KEY not in output + errors and KEY.encode() not in files


def post(url: str, options: ClientOptions) -> None:
    Endpoint(url, KEY, options).post("/tokenize", {"content": "question"})


def chat(url: str, options: ClientOptions) -> None:
    list(ChatClient(url, KEY, options).answer({"model": "m", "messages": []}))


def event(**choice: object) -> Attack:
    """Stream one event of an answer."""
    return reply(f"data: {json.dumps({'choices': [choice]})}\n\ndata: [DONE]\n\n".encode(), kind="text/event-stream")


STREAM = OK + b"Content-Type: text/event-stream\r\n\r\n"

STREAMED: dict[str, tuple[Attack, str]] = {
    "endless line": (endless(STREAM + b"data: ", b"a" * 65536), "its reply is larger than 1 MiB"),
    "endless comments": (endless(STREAM, b": ping\n" * 1000), "its reply is larger than 1 MiB"),
    "endless events": (endless(STREAM, b'data: {"choices": []}\n\n' * 1000), "its reply is larger than 1 MiB"),
    "dripping events": (
        endless(STREAM, b'data: {"choices": []}\n\n', 0.02),
        "its reply has not ended after 2 seconds",
    ),
    "deep event": (reply(b"data: " + b"[" * 100_000 + b"\n\n"), "its reply is nested too deeply"),
    "broken event": (reply(b'data: {"choices"\n\n'), "the answer is broken"),
    "an event that is a list": (reply(b"data: []\n\n"), "another form than OpenAI's"),
    "choices that are a number": (reply(b'data: {"choices": 7}\n\n'), "another form than OpenAI's"),
    "a list as text": (event(delta={"content": ["a"]}), "another form than OpenAI's"),
    "probabilities of another kind": (event(delta={}, logprobs={"content": [1]}), "another form than OpenAI's"),
    "cut": (cut(STREAM + b'data: {"choices": []}\n\n'), "ended in the middle of the answer"),
    "error with the key": (reply(f'data: {{"error": {{"message": "{SPELLED}"}}}}\n\n'.encode()), "[API key]"),
    "error of another kind": (reply(b'data: {"error": 5}\n\n'), "5"),
}

WITHOUT_RETRIES = {
    f"{client.__name__}: {name}": (client, *attack)
    for client, attacks in ((post, FATAL), (chat, FATAL | STREAMED))
    for name, attack in attacks.items()
    if not name.startswith(("deep", "pause", "endless pause", "stops")) or name in STREAMED
}


def is_usual(name: str) -> bool:
    return name.removeprefix("post: ").removeprefix("chat: ") in (*USUAL, *STREAMED) and "dripping" not in name


@pytest.mark.parametrize(
    ("client", "does", "words"),
    [
        pytest.param(*case, id=name, marks=[] if is_usual(name) else [pytest.mark.exhaustive])
        for name, case in WITHOUT_RETRIES.items()
    ],
)
def test_an_attack_on_a_proof_or_a_chat_is_one_line(
    client: Callable[[str, ClientOptions], None], does: Attack, words: str
) -> None:
    options = ClientOptions(timeout_s=limit_of(words), reply_mb=1)
    options.key()
    with attacking(does) as server, pytest.raises(InputError, match=re.escape(words)) as error:
        client(server.url, options)
    assert KEY not in str(error.value) and "\n" not in str(error.value)
