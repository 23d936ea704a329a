"""The proof that nothing leaves this machine: whole commands without a network, and every system call of theirs.

The kernel shows what the audit hook cannot see: gloo, llama.cpp and whatever else is native code.
"""

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml

from test_pipeline import write_recipe

ROOT = Path(__file__).parents[1]

NAMESPACE = ("unshare", "--map-root-user", "--net")
"""Starts a command in a network of its own, in which there is nothing but a loopback interface that is down."""

STRACE = ("strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=%network", "-o")

LOOPBACK_UP = """
import fcntl, os, socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x41))  # SIOCSIFFLAGS: up and running
os.execvp(sys.argv[1], sys.argv[1:])
"""

CALLS = ("connect", "bind", "sendto", "sendmsg", "sendmmsg")
"""System calls that name the address which they reach, or on which they can be reached."""

ADDRESS = re.compile(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
NAME_SERVER = re.compile(r"sin6?_port=htons\(53\)|/resolve/|nss_|sa_family=AF_(?!INET|UNIX|NETLINK|UNSPEC)")
"""A name server on this machine, which asks others, and families of addresses that no command uses."""


def leaving(trace: Iterable[str]) -> list[str]:
    """The system calls of a trace that reach beyond this machine, or can be reached from there."""
    found = []
    for line in trace:
        call = re.match(r"\d+ +(\w+)\(", line)
        if call is None or call[1] not in CALLS:
            continue
        hosts = [ip_address(one or other) for one, other in ADDRESS.findall(line)]
        plain = [getattr(host, "ipv4_mapped", None) or host for host in hosts]
        if any(not host.is_loopback for host in plain) or NAME_SERVER.search(line):
            found.append(line.strip())
    return found


TRACE = {
    '7  connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.1")}, 16) = 0': True,
    '7  connect(3, {sa_family=AF_INET, sin_port=htons(8), sin_addr=inet_addr("192.0.2.1")}, 16 <unfinished ...>': True,
    '7  connect(3, {sa_family=AF_INET6, sin6_port=htons(8), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)}, 28': True,
    '7  bind(4, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("0.0.0.0")}, 16) = 0': True,
    '7  bind(4, {sa_family=AF_INET6, sin6_port=htons(0), inet_pton(AF_INET6, "::", &sin6_addr)}, 28) = 0': True,
    '7  sendto(5, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("10.0.0.53")}, 16) = 1': True,
    '7  connect(5, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0': True,
    '7  connect(5, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0': True,
    '7  connect(3, {sa_family=AF_INET, sin_port=htons(33801), sin_addr=inet_addr("127.0.0.1")}, 16) = 0': False,
    '7  connect(3, {sa_family=AF_INET6, sin6_port=htons(8), inet_pton(AF_INET6, "::ffff:127.0.0.1", &sin6_a': False,
    '7  bind(4, {sa_family=AF_NETLINK, nl_pid=0, nl_groups=00000000}, 12) = 0': False,
    '7  connect(5, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT': False,
    '7  getsockname(3, {sa_family=AF_INET, sin_port=htons(0), sin_addr=inet_addr("0.0.0.0")}, [16]) = 0': False,
}  # fmt: skip


@pytest.mark.parametrize("line", TRACE)
def test_a_trace_shows_what_leaves_this_machine(line: str) -> None:
    assert leaving([line]) == ([line] if TRACE[line] else [])


def watched(folder: Path, *command: object) -> tuple[list[str], "subprocess.CompletedProcess[str]"]:
    """Run a command without a network, and return the trace of its system calls."""
    trace = folder / "trace.txt"
    words = [sys.executable, "-c", LOOPBACK_UP, *STRACE, trace, sys.executable, *command]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [*NAMESPACE, *map(str, words)], capture_output=True, text=True, check=False, env=environment, timeout=1200
    )
    return trace.read_text(encoding="utf-8", errors="replace").splitlines() if trace.exists() else [], done


REACHES_OUT = """
import socket
for reach in (lambda: socket.create_connection(("192.0.2.1", 80), 1), lambda: socket.getaddrinfo("a.example", 80)):
    try: reach()
    except OSError: pass
"""


def not_run(reason: str) -> None:
    """Skip, and say so where pytest does not list what was skipped."""
    warnings.warn(f"THE OFFLINE PROOF DID NOT RUN: {reason}", stacklevel=1)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def permitted(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where one of the tools is missing, or the kernel does not allow it."""
    if missing := [name for name in ("unshare", "strace") if shutil.which(name) is None]:
        not_run(f"not installed: {', '.join(missing)}")
    trace, done = watched(tmp_path_factory.mktemp("probe"), "-c", REACHES_OUT)
    if done.returncode != 0 or not trace:
        not_run(f"this kernel does not allow it: {done.stderr.strip()[-300:]}")
    assert any("192.0.2.1" in line for line in leaving(trace)), "the test would not see a connection"


def write_demo(folder: Path) -> Path:
    """The demo with a few steps: its corpus, both stages, merge, evaluation and page."""
    recipe = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text(encoding="utf-8"))
    recipe["mfpt"]["steps"] = recipe["mpeft"]["steps"] = 4
    recipe["eval"] |= {"models": ["mpeft"], "scorers": ["likelihood"]}
    file = folder / "demo.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file


@pytest.mark.exhaustive
@pytest.mark.usefixtures("permitted")
def test_no_command_reaches_beyond_this_machine(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    tiny = write_recipe(tmp_path / "tiny", steps=4)
    model, run = tmp_path / "run" / "merge" / "model", tmp_path / "run"
    commands: dict[str, tuple[object, ...]] = {
        "demo": ("run", write_demo(tmp_path), "--output", tmp_path / "demo"),
        "corpus": ("corpus", "build", tiny.with_name("corpus.jsonl"), "--output", tmp_path / "corpus"),
        "two processes": ("launch", "--processes", 2, "run", tiny, "--output", run),
        "evaluation": (
            *("eval", "--model", model, "--benchmark", tiny.with_name("exam.jsonl")),
            *("--output", tmp_path / "eval"),
        ),
        "page": ("report", run, tmp_path / "eval", "--output", tmp_path / "page.html"),
        "file": ("deploy", "gguf", run, "--output", tmp_path / "tiny.gguf"),
        "server": ("chat", tmp_path / "tiny.gguf", "--max-tokens", 4),
    }
    for name, command in commands.items():
        trace, done = watched(tmp_path, "-m", "jmedllm", *command)
        assert (done.returncode, leaving(trace)) == (0, []), (name, done.stderr[-2000:])
        if name in ("two processes", "server"):
            assert any('inet_addr("127.0.0.1")' in line for line in trace), "they meet on the loopback interface"
