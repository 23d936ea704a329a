"""A bundle installs without a network, and answers without PyTorch."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jmedllm.bundle.served_model import find_model
from jmedllm.bundle.target import parse_target, this_python, usual_platform
from jmedllm.bundle.write import write_bundle
from jmedllm.deploy.gguf.export import export_gguf
from jmedllm.deploy.gguf.source import open_source
from jmedllm.errors import InputError
from jmedllm.precision import choose_precision

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]  # downloads wheels and makes an environment

WITHOUT_NETWORK = ["unshare", "--net", "--map-root-user", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]

CLIENT = """
import json, subprocess, sys, urllib.request

server = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
line = next((line for line in server.stdout if "?key=" in line), None)
if line is None:
    sys.exit(server.wait())
address, _, key = line.split()[-1].partition("/?key=")
body = json.dumps({"model": "ward", "prompt": "The", "max_tokens": 4, "temperature": 0}).encode()
headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
try:
    request = urllib.request.Request(f"{address}/v1/completions", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        sys.stdout.write(answer.read().decode())
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=60) as page:
        assert b"</html>" in page.read()
finally:
    server.terminate()
sys.exit(server.wait())
"""
"""Starts the bundle and asks it once; in the same network as the server."""


@pytest.fixture
def bundle(tiny_model: Path, tmp_path: Path) -> Path:
    file = tmp_path / "ward.gguf"
    with open_source(str(tiny_model), None, choose_precision("float32", "cpu")) as source:
        export_gguf(source, file, "f16", proved=False)
    target = parse_target(this_python(), usual_platform())
    try:
        write_bundle(find_model(str(file)), tmp_path / "bundle", target)
    except InputError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no wheels: {error}")
    moved = (tmp_path / "bundle").rename(tmp_path / "a ward's copy")
    for path in (*moved.rglob("*"), moved):
        path.chmod(path.stat().st_mode & ~0o222)
    return moved


def test_it_installs_without_a_network_and_answers_without_torch(bundle: Path, tmp_path: Path) -> None:
    isolated = shutil.which("unshare") and not subprocess.run([*WITHOUT_NETWORK, "true"], check=False).returncode
    place = tmp_path / "a place" / "venv"
    serve = ["sh", str(bundle / "run.sh"), "--venv", str(place), "--port", "0", "--key-file", str(tmp_path / "key")]
    command = [*(WITHOUT_NETWORK if isolated else []), sys.executable, "-c", CLIENT, *serve]
    home = {"HOME": str(tmp_path / "home"), "PYTHON": sys.executable, "PYTHONPATH": str(tmp_path / "elsewhere")}
    done = subprocess.run(
        command, env={**os.environ, **home}, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["usage"]["completion_tokens"] > 0
    installed = subprocess.run(
        [place / "bin" / "python", "-I", "-c", "import torch"], capture_output=True, check=False
    )
    assert b"No module named 'torch'" in installed.stderr


def test_a_training_bundle_evaluates_without_a_network(tiny_model: Path, tmp_path: Path) -> None:
    bundle, place = tmp_path / "a bundle", tmp_path / "venv"
    command = [sys.executable, "-m", "jmedllm", "bundle", "--output", str(bundle), "--model", str(tiny_model)]
    packed = subprocess.run(command, capture_output=True, text=True, check=False)
    if packed.returncode and not os.environ.get("CI"):
        pytest.skip(f"no wheels: {packed.stderr}")
    assert packed.returncode == 0, packed.stderr
    isolated = shutil.which("unshare") and not subprocess.run([*WITHOUT_NETWORK, "true"], check=False).returncode
    inside = WITHOUT_NETWORK if isolated else []
    home = {"HOME": str(tmp_path / "home"), "PYTHON": sys.executable, "PATH": os.environ["PATH"]}

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        given = [*inside, *map(str, words)]
        return subprocess.run(given, env=home, cwd=tmp_path, capture_output=True, text=True, check=False)

    weights = next(bundle.glob("models/*/model.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    refused = run("sh", bundle / "install.sh", "--venv", place)
    assert (refused.returncode, place.exists()) == (2, False)
    assert f"{weights.relative_to(bundle)}: changed" in refused.stderr
    weights.write_bytes(content)

    installed = run("sh", bundle / "install.sh", "--venv", place)
    assert (installed.returncode, installed.stdout) == (0, f"installed: {place / 'bin' / 'jmedllm'}\n"), (
        installed.stderr
    )
    evaluated = ["eval", "--model", weights.parent, "--benchmark", "demo:ja", "--limit", "2", "--output", "results"]
    done = run(place / "bin" / "jmedllm", *evaluated)
    assert done.returncode == 0, done.stderr
    assert run("sh", bundle / "install.sh", "--verify-only").returncode == 0  # the bundle is as it was
