"""The last lines of a run serve its model and chat with it, as they are printed."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from conftest import Cli
from test_cli_next import use
from test_pipeline import write_recipe

pytestmark = pytest.mark.exhaustive


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a shell with `jmedllm` on its path and a home directory of its own."""
    program = tmp_path / "bin" / "jmedllm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m jmedllm "$@"\n')
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    source = str(Path(__file__).parents[2] / "src")
    return os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(tmp_path / "home"), "PYTHONPATH": source,
        "PYTHONUNBUFFERED": "1",
    }  # fmt: skip


def test_what_a_run_prints_serves_its_model_and_chats_with_it(cli: Cli, shell: dict[str, str], tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, steps=4)
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text[: text.index("mpeft:")], encoding="utf-8")
    code, _, errors = cli("run", recipe)
    assert code == 0, errors
    serve, chat = use(errors)
    assert serve.startswith("jmedllm deploy gguf runs/tiny --output runs/tiny/tiny.gguf && jmedllm deploy serve ")

    pipe = subprocess.PIPE
    with subprocess.Popen(
        ["sh", "-c", f"{serve} --port 0"],
        env=shell,
        stdout=pipe,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as server:
        try:
            assert server.stdout is not None
            address = next(found for line in server.stdout if (found := re.search(r"http://\S+/\?key=\S+", line)))[0]
            with pytest.raises(HTTPError, match="401"):
                urlopen(address.split("?")[0], timeout=60)
            done = subprocess.run(
                ["sh", "-c", chat], env=shell, input="What is scurvy?\n", capture_output=True, text=True, check=False
            )
            assert done.returncode == 0 and "not a medical device" in done.stderr, done.stderr
        finally:
            os.killpg(server.pid, signal.SIGTERM)
