"""Processes of vLLM end with the server, and say why they do not start. A script replaces vLLM."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import httpx2 as httpx
import pytest

from jmedllm.errors import InputError
from jmedllm.serving.backends.vllm_process import VllmProcess, start

pytestmark = pytest.mark.slow

SERVES = """
import http.server, os, socketserver, subprocess, sys
assert sys.argv[1] == "serve" and sys.argv[-2:] == ["--max-num-seqs", "2"]
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(99)"
worker = subprocess.Popen([sys.executable, "-c", DEAF], stdout=subprocess.PIPE)
worker.stdout.readline()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.getpid()} {worker.pid} {os.environ['VLLM_API_KEY']}".encode())
    def log_message(self, *_):
        pass
with socketserver.UnixStreamServer(sys.argv[sys.argv.index("--uds") + 1], Handler) as server:
    server.serve_forever()
"""
FAILS = """
print("(EngineCore pid=7) ERROR 11-30 13:20:45 [core.py:1] ValueError: Model architectures ['X'] are not supported.")
raise RuntimeError("Engine core initialization failed. See root cause above.")
"""


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], VllmProcess]:
    def begin(script: str) -> VllmProcess:
        main = tmp_path / "vllm" / "entrypoints" / "cli" / "main.py"
        main.parent.mkdir(parents=True)
        main.write_text(script)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
        return start(Path("model"), ["--max-num-seqs", "2"], {}, print)

    return begin


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_all_processes_end_when_the_server_does(
    begun: Callable[[str], VllmProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jmedllm.serving.backends.vllm_process._GRACE_S", 0.2)
    vllm = begun(SERVES)
    address = vllm.address()
    assert Path(address).parent.stat().st_mode & 0o777 == 0o700
    with httpx.Client(transport=httpx.HTTPTransport(uds=address)) as client:
        server, worker, key = client.get("http://localhost/health").text.split()
    assert key == vllm.key
    assert key not in Path(f"/proc/{server}/cmdline").read_text()
    assert vllm.process.stdin is not None
    vllm.process.stdin.close()  # as when the server is killed
    limit = time.monotonic() + 30
    while alive(int(server)) or alive(int(worker)):  # the worker ignores SIGTERM
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert not Path(address).parent.exists()
    vllm.kill()


def test_the_reason_is_not_its_consequence(begun: Callable[[str], VllmProcess]) -> None:
    vllm = begun(FAILS)
    with pytest.raises(
        InputError, match=r"^model: vLLM does not load it: Model architectures \['X'\] are not supported"
    ):
        vllm.address()
    vllm.kill()
