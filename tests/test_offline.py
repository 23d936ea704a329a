"""Offline means offline: what leaves this machine is refused and named, whichever library tries it."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli
from jmedllm import offline
from jmedllm.data import on_disk
from jmedllm.errors import InputError


@pytest.fixture
def hook() -> Iterator[None]:
    offline.install()
    yield
    offline.uninstall()


def bound(family: int, address: tuple[Any, ...], kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(family, kind) as listener:
        listener.bind(address)


def datagram(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", address)


def listening_without_address() -> None:
    with socket.socket() as listener:
        listener.listen()


def message(address: tuple[str, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendmsg([b"x"], [], 0, address)


def connected(family: int, kind: int, address: Any) -> None:
    with socket.socket(family, kind) as sender:
        sender.connect_ex(address)


def urllib_asks(url: str) -> None:
    import urllib.request

    urllib.request.urlopen(url, timeout=5)


def requests_asks(url: str) -> None:
    pytest.importorskip("requests").get(url, timeout=5)


def httpx_asks(url: str) -> None:
    pytest.importorskip("httpx2").get(url, timeout=5)


def asyncio_asks(host: str) -> None:
    import asyncio

    asyncio.run(asyncio.open_connection(host, 443))


def smtp_asks(host: str) -> None:
    import smtplib

    smtplib.SMTP(host, timeout=5)


def hub_asks(name: str) -> None:
    from huggingface_hub import HfApi, constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, False  # as if the variable had been lifted
    try:
        HfApi().model_info(name, timeout=5)
    finally:
        constants.HF_HUB_OFFLINE = before


V4, V6 = socket.AF_INET, socket.AF_INET6
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "number": (lambda: connected(V4, TCP, ("192.0.2.1", 443)), "connect to 192.0.2.1:443"),
    "number of IPv6": (lambda: connected(V6, TCP, ("2001:db8::1", 443)), "connect to 2001:db8::1:443"),
    "mapped number": (lambda: connected(V6, TCP, ("::ffff:192.0.2.1", 443)), "connect to ::ffff:192.0.2.1:443"),
    "own address by a route": (lambda: connected(V4, UDP, ("192.0.2.1", 80)), "connect to 192.0.2.1:80"),
    "datagram": (lambda: datagram(("192.0.2.1", 53)), "send to 192.0.2.1:53"),
    "name server of this machine": (lambda: datagram(("127.0.0.53", 53)), "send to 127.0.0.53:53"),
    "datagram to a name": (lambda: datagram(("hospital.example", 514)), "send to hospital.example:514"),
    "message to a name": (lambda: message(("hospital.example", 514)), "send to hospital.example:514"),
    "name without a look-up": (lambda: connected(V4, TCP, ("hospital.example", 9)), "connect to hospital.example:9"),
    "listening as a name": (lambda: bound(V4, ("hospital.example", 0)), "listen on hospital.example:0"),
    "listening without an address": (listening_without_address, "listen on 0.0.0.0:0"),
    "message": (lambda: message(("192.0.2.1", 53)), "send to 192.0.2.1:53"),
    "all interfaces": (lambda: bound(V4, ("", 0)), "listen on all interfaces:0"),
    "all interfaces of IPv6": (lambda: bound(V6, ("::", 0)), "listen on :::0"),
    "another interface": (lambda: bound(V4, ("192.0.2.1", 0)), "listen on 192.0.2.1:0"),
    "name": (lambda: socket.getaddrinfo("hospital.example", 443), "look up hospital.example"),
    "name in bytes": (lambda: socket.getaddrinfo(b"hospital.example", 443), "look up hospital.example"),
    "name that begins as ours": (lambda: socket.getaddrinfo("localhost.example", 1), "look up localhost.example"),
    "old look-up": (lambda: socket.gethostbyname("hospital.example"), "look up hospital.example"),
    "number backwards": (lambda: socket.gethostbyaddr("192.0.2.1"), "look up 192.0.2.1"),
    "number backwards, new": (lambda: socket.getnameinfo(("192.0.2.1", 80), 0), "look up 192.0.2.1:80"),
    "urllib": (lambda: urllib_asks("http://hospital.example/x"), "look up hospital.example"),
    "requests": (lambda: requests_asks("https://hospital.example/x"), "look up hospital.example"),
    "httpx": (lambda: httpx_asks("https://hospital.example/x"), "look up hospital.example"),
    "asyncio": (lambda: asyncio_asks("hospital.example"), "look up hospital.example"),
    "smtplib": (lambda: smtp_asks("hospital.example"), "look up hospital.example"),
    "huggingface_hub": (lambda: hub_asks("org/name"), "look up huggingface.co"),
    "escape sequence in a name": (lambda: socket.getaddrinfo("a\x1b[2Jb.example", 1), r"look up a\x1b[2Jb.example"),
}


@pytest.mark.usefixtures("hook")
@pytest.mark.parametrize("name", REFUSED)
def test_what_leaves_this_machine_is_refused_and_recorded_with_its_module(name: str) -> None:
    attempt, did = REFUSED[name]
    with pytest.raises(Exception) as error:
        attempt()
    del error
    [first, *_] = offline.blocked()
    assert first.endswith(f"tried to {did}")
    module = {"huggingface_hub": "huggingface_hub.", "asyncio": "thread asyncio_0"}.get(name, "test_offline, line ")
    assert first.startswith(module)


ALLOWED: dict[str, Callable[[], object]] = {
    "loopback": lambda: connected(V4, TCP, ("127.0.0.1", 9)),
    "all of 127": lambda: connected(V4, TCP, ("127.1.2.3", 9)),
    "loopback of IPv6": lambda: connected(V6, TCP, ("::1", 9)),
    "mapped loopback": lambda: connected(V6, TCP, ("::ffff:127.0.0.1", 9)),
    "short form": lambda: connected(V4, TCP, ("127.1", 9)),
    "localhost": lambda: connected(V4, TCP, ("localhost", 9)),
    "listening": lambda: bound(V4, ("127.0.0.1", 0)),
    "datagram": lambda: datagram(("127.0.0.1", 9)),
    "numbers need no look-up": lambda: socket.getaddrinfo("192.0.2.1", 443),
    "no name": lambda: socket.getaddrinfo(None, 0),
    "localhost looked up": lambda: socket.getaddrinfo("localhost", 0),
    "Unix sockets": lambda: [each.close() for each in socket.socketpair()],
    "netlink": lambda: bound(socket.AF_NETLINK, (0, 0), socket.SOCK_RAW) if hasattr(socket, "AF_NETLINK") else None,
}


@pytest.mark.usefixtures("hook")
@pytest.mark.parametrize("name", ALLOWED)
def test_what_stays_on_this_machine_is_allowed(name: str) -> None:
    ALLOWED[name]()
    assert offline.blocked() == []


@pytest.mark.usefixtures("hook")
def test_names_of_the_hosts_file_are_looked_up_without_a_name_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 ward7.hospital.example Ward7 # not.this.example\n", encoding="utf-8")
    monkeypatch.setattr(offline, "_HOSTS", hosts)
    for name in ("ward7", "WARD7.hospital.example."):
        assert offline._may_look_up(name)
    for name in ("not.this.example", "hospital.example"):
        assert not offline._may_look_up(name)
    assert offline._may_look_up_backwards("127.0.0.1")
    assert not offline._may_look_up_backwards("::ffff:127.0.0.1"), "the file has it in another form"


@pytest.mark.usefixtures("hook")
def test_a_name_of_the_hosts_file_is_connected_only_if_it_is_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.1.1 ward7\n192.0.2.4 archive both # a server\n::1 both\n", encoding="utf-8")
    monkeypatch.setattr(offline, "_HOSTS", hosts)
    with socket.socket() as sender:
        found = {
            name: offline._may_connect(sender, (name, 104)) for name in ("ward7", "WARD7.", "archive", "both", "x")
        }
    assert found == {"ward7": True, "WARD7.": True, "archive": False, "both": False, "x": False}


@pytest.mark.parametrize("value", ["", "1", "true", "[]", "{}", '{"record": 5, "allowed": 1}'])
def test_a_users_own_value_of_the_variable_is_no_hook_of_a_parent(value: str) -> None:
    code = (
        "import jmedllm; from jmedllm import offline; offline.install(); print(offline._is_owner); offline.uninstall()"
    )
    environment = os.environ | {"JMEDLLM_OFFLINE": value}
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert said.stdout == "True\n"


@pytest.mark.usefixtures("hook")
def test_threads_and_children_are_refused_and_recorded_too(tmp_path: Path) -> None:
    def swallowing() -> None:
        with suppress(OSError):
            socket.getaddrinfo("thread.example", 1)

    thread = threading.Thread(target=swallowing)
    thread.start()
    thread.join()
    child = tmp_path / "child.py"
    child.write_text(
        "import jmedllm, socket\ntry: socket.getaddrinfo('child.example', 1)\nexcept OSError: pass\n", encoding="utf-8"
    )
    subprocess.run([sys.executable, child], check=True)
    assert offline.blocked() == [
        f"test_offline, line {swallowing.__code__.co_firstlineno + 2}, tried to look up thread.example",
        f"{child}, line 2, tried to look up child.example",
    ]
    assert offline._record is not None and offline._record.stat().st_mode & 0o777 == 0o600
    record = offline._record
    offline.uninstall()
    assert not record.exists()


@pytest.mark.usefixtures("hook")
def test_an_allowed_host_is_announced_once_and_handed_to_children(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offline.allow("https://Model.Hospital.example:8443/v1", "questions")
    offline.allow("model.hospital.example", "questions")
    offline.allow("http://127.0.0.1:8000", "questions")
    offline.allow("http://localhost:8000", "questions")
    offline.allow(".files.example", "requests for files")
    assert capsys.readouterr().err == (
        "sending questions to model.hospital.example\nsending requests for files to files.example\n"
    )
    assert offline._may_look_up("model.hospital.example") and offline._may_look_up("cdn.files.example")
    assert not offline._may_look_up("hospital.example") and not offline._may_look_up("otherfiles.example")
    code = "import jmedllm; from jmedllm import offline; print(offline._may_look_up('model.hospital.example'))"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (said.stdout, said.stderr) == ("True\n", "")


def test_an_allowed_name_is_connected_by_its_address() -> None:
    code = """
import socket
socket.getaddrinfo = lambda host, *others: [(2, 1, 6, "", ("192.0.2.7", 443))]
from jmedllm import offline
offline.install()
offline.allow("model.example", "questions")
with socket.socket() as s:
    print(offline._may_connect(s, ("192.0.2.7", 443)))
    socket.getaddrinfo("other.example", 443)
    print(offline._may_connect(s, ("192.0.2.7", 443)))
    socket.getaddrinfo("model.example", 443)
    print(offline._may_connect(s, ("192.0.2.7", 443)))
offline.uninstall()
"""
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.split() == ["False", "False", "True"]


def test_variables_are_set_before_libraries_are_imported() -> None:
    code = "import jmedllm, huggingface_hub.constants as c; print(c.HF_HUB_OFFLINE, c.HF_HUB_DISABLE_TELEMETRY)"
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "0"}
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert said.stdout.split() == ["True", "True"]


def _swallow() -> None:
    with suppress(OSError):
        socket.getaddrinfo("telemetry.example", 443)


def _raise() -> None:
    socket.getaddrinfo("telemetry.example", 443)


def _fail_later() -> None:
    _swallow()
    raise KeyError("what the answer would have had")


def _wrap() -> None:
    try:
        _raise()
    except OSError as error:
        raise InputError("the model's page cannot be read") from error


def _fail_otherwise() -> None:
    _swallow()
    raise InputError("the file is empty")


ENDS: dict[Callable[[], None], list[str]] = {
    _swallow: [],
    _raise: [],
    _fail_later: [],
    _wrap: [],
    _fail_otherwise: ["error: the file is empty"],
}


@pytest.mark.parametrize("does", ENDS, ids=lambda each: each.__name__)
def test_a_command_ends_with_one_line_that_names_module_and_host(
    does: Callable[[], None], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = on_disk.find_on_disk
    monkeypatch.setattr(on_disk, "find_on_disk", lambda data: (does(), find(data))[1])
    code, _, errors = cli("data", "list")
    *before, last = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert (code, before) == (2, ENDS[does])
    assert re.fullmatch(
        r"error: test_offline, line \d+, tried to look up telemetry\.example; it was refused, because this command "
        r"works offline \(docs/offline\.md\)",
        last,
    )
    monkeypatch.undo()
    assert cli("data", "list")[0] == 0, "the next command has a record of its own"
