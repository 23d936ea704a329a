"""Where questions and keys go: to the server that was named, and nowhere else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Cli, write_questions
from hostile_server import KEY, attacking, cut, redirect, said
from jmedllm.deploy.endpoint import Endpoint
from jmedllm.errors import InputError
from jmedllm.http_client import Limits, UnreachableError, ask
from jmedllm.models.backends.base import GenerationConfig, Request
from jmedllm.models.backends.openai.server import connect
from jmedllm.named_server import ClientOptions, parse_proxy, parse_server
from jmedllm.offline import is_loopback
from jmedllm.output import redact
from jmedllm.serving.client import ChatClient

REQUESTS = [Request("q0", "question", "q0", generate=True)]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JMEDLLM_API_KEY", KEY)


def ask_eval(url: str, options: ClientOptions) -> None:
    list(connect(f"{url}/v1", "m", chat=False, options=options).answer(REQUESTS, GenerationConfig(8)))


def ask_prove(url: str, options: ClientOptions) -> None:
    Endpoint(url, KEY, options).post("/tokenize", {"content": "question"})


def ask_chat(url: str, options: ClientOptions) -> None:
    list(ChatClient(url, KEY, options).answer({"model": "m", "messages": []}))


CLIENTS = {"eval": ask_eval, "prove": ask_prove, "chat": ask_chat}

Client = Callable[[str, ClientOptions], None]


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_nothing_is_sent_where_a_server_redirects(client: Client) -> None:
    with attacking(said("c")) as other, attacking(redirect(f"{other.url}/v1/completions")) as server:
        problem = f"redirects to {other.url}/v1/completions; redirects are not followed"
        with pytest.raises(InputError, match=problem):
            client(server.url, ClientOptions())
    assert server.seen
    assert other.seen == []


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_a_proxy_of_the_environment_sees_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with attacking(said("c")) as proxy, attacking(redirect("/")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with pytest.raises(InputError, match="redirects to /"):
            client(server.url, ClientOptions())
        assert proxy.seen == []


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_a_named_proxy_gets_the_request_and_its_own_password(client: Client) -> None:
    with attacking(redirect("/")) as proxy:
        named = parse_proxy(proxy.url.replace("http://", "http://me:pass%20word9@"))
        with pytest.raises(InputError, match="redirects to /"):
            client("http://server.example", ClientOptions(proxy=named))
    assert proxy.seen[-1].startswith("POST http://server.example/")
    assert "Proxy-Authorization: Basic bWU6cGFzcyB3b3JkOQ==\r\n" in proxy.seen[-1]
    assert redact(f"{named} pass word9 bWU6cGFzcyB3b3JkOQ==").count("[API key]") == 3


def test_only_the_request_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "somebody else's")
    with attacking(said("c")) as server:
        ask_eval(server.url, ClientOptions())
    head = server.seen[-1].partition("\r\n\r\n")[0].lower().splitlines()
    names = {line.partition(":")[0] for line in head[1:]}
    expected = {"host", "authorization", "content-type", "accept", "content-length"}
    assert names == expected | {"accept-encoding", "connection", "user-agent"}
    assert "user-agent: jmedllm" in head and "accept-encoding: identity" in head


def test_the_key_of_another_service_is_sent_only_if_named(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = write_questions(tmp_path / "exam.jsonl", count=1)
    with attacking(said("c")) as server:
        command = ("eval", "--backend", "openai", "--server", f"{server.url}/v1", "--model", "m", "--benchmark", exam)
        command += ("--language", "ja", "--selection", "all", "--scorer", "answer", "--output", tmp_path / "out")
        monkeypatch.delenv("JMEDLLM_API_KEY")
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        code, _, errors = cli(*command)
        assert code == 2 and "set JMEDLLM_API_KEY; OPENAI_API_KEY goes to no server unless named: --key-env" in errors
        assert server.seen == []
        code, _, errors = cli(*command, "--key-env", "OPENAI_API_KEY")
        assert code == 0, errors
        assert f"authorization: bearer {KEY}" in server.seen[-1].lower()
        monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\nX: y")
        code, _, errors = cli(*command, "--key-env", "OPENAI_API_KEY")
        assert code == 2 and "OPENAI_API_KEY: a key has no blanks and only ASCII characters" in errors
        assert KEY not in errors


def test_an_unencrypted_key_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    connect("http://10.255.255.1/v1", "m", chat=False)
    errors = capsys.readouterr().err
    assert "sending questions to 10.255.255.1\n" in errors
    assert "note: http://10.255.255.1/v1: http sends the key and the questions unencrypted" in errors
    connect("http://127.0.0.1:9/v1", "m", chat=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("host", "here"),
    [
        *((each, True) for each in ("127.0.0.1", "127.1", "localhost", "LocalHost", "[::1]", "[::ffff:127.0.0.1]")),
        *((each, True) for each in ("0.0.0.0", "2130706433")),
        *((each, False) for each in ("127.evil.example", "127.0.0.1.evil.example", "localhost.evil.example")),
        *((each, False) for each in ("192.0.2.1", "[::ffff:192.0.2.1]", "1270.0.0.1")),
    ],
)
def test_only_a_server_of_this_machine_gets_its_key(host: str, here: bool) -> None:
    assert is_loopback(f"http://{host}:8080/v1") is here


ADDRESSES = {
    "no scheme": ("127.0.0.1:8080", "is not an address"),
    "another scheme": ("ftp://a.example", "is not an address"),
    "a file": ("file:///etc/passwd", "is not an address"),
    "no host": ("http:///v1", "is not an address"),
    "wrong port": ("http://a.example:99999", "is not an address"),
    "line end": ("http://a.example/\r\nX: y", "is not an address"),
    "blank": ("http://a.example /v1", "is not an address"),
    "Cyrillic": ("http://\u0430.example", "is not an address"),
    "password": ("http://me:hunter2-secret@a.example/v1", "has a user or a password"),
    "password elsewhere": ("me:hunter2-secret@a.example", "is not an address"),
    "key in the query": ("https://a.example/v1?key=hunter2-secret", "leave out what follows the path"),
    "key in the fragment": ("https://a.example/v1#hunter2-secret", "leave out what follows the path"),
}


@pytest.mark.parametrize(("url", "problem"), ADDRESSES.values(), ids=ADDRESSES)
def test_an_address_that_is_none_or_has_a_secret_is_refused(url: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as error:
        parse_server(url)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["proxy.example:3128", "https://me:hunter2-secret@p.example", "socks5://p.example", ""]
)
def test_a_proxy_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"--proxy .*: give an address such as http://proxy\.example:3128") as error:
        parse_proxy(url)
    assert "hunter2" not in str(error.value)


def test_https_goes_through_a_tunnel() -> None:
    with (
        attacking(cut(b"HTTP/1.1 502 No\r\n\r\n")) as proxy,
        pytest.raises(UnreachableError, match="502 No"),
        ask("https://server.example/v1", b"{}", {"Authorization": KEY}, Limits(60), proxy=proxy.url),
    ):
        pass
    assert proxy.seen[0].startswith("CONNECT server.example:443 HTTP/1.")
    assert "authorization" not in proxy.seen[0].lower()
