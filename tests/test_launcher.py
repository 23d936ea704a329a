"""Several processes of this machine run one command: they end together, report once, and meet without a network."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Cli
from jmedllm import launcher
from jmedllm.errors import InputError

WORKER = """
import os, signal, sys
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
from jmedllm.processes import is_reporting, rank
own, words = rank().global_rank, sys.argv[1:]
print("started", own, flush=True)
if words[own] == "waits":
    os.read(0, 1)
    print("launcher has ended", own, flush=True)
elif words[own] == "is killed":
    os.kill(os.getpid(), 9)
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the launcher may end it now
    if words[own] != "0" and is_reporting():
        print("error of one process", flush=True)
    sys.exit(int(words[own]))
"""


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "a_worker.py").write_text(WORKER, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr(launcher, "_WORKER", "a_worker")
    return "a_worker"


ENDS: dict[str, tuple[list[str], int | str, list[str]]] = {
    "all end well": (["0", "0"], 0, []),
    "one fails": (["0", "2"], 2, ["error of one process"]),
    "one fails while another waits for it": (["waits", "2"], 2, ["error of one process"]),
    "both fail": (["2", "2"], 2, ["error of one process"]),
    "one is killed": (
        ["waits", "is killed"],
        "process 2 of 2 was ended by SIGKILL, most likely for lack of memory; ",
        [],
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_processes_end_together_and_report_once(name: str, worker: str, capfd: pytest.CaptureFixture[str]) -> None:
    words, expected, errors = ENDS[name]
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            launcher.launch(words, 2)
    else:
        assert launcher.launch(words, 2) == expected
    said = capfd.readouterr().out.splitlines()
    assert [line for line in said if line.startswith("error")] == errors
    assert "launcher has ended 0" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_their_launcher(number: signal.Signals, worker: str, tmp_path: Path) -> None:
    code = f"from jmedllm import launcher; launcher._WORKER = {worker!r}; launcher.launch(['waits', 'waits'], 2)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        assert sorted(process.stdout.readline() for _ in range(2)) == ["started 0\n", "started 1\n"]
        process.send_signal(number)
        rest = process.stdout.read()  # returns when no process has this pipe any more
    assert rest.count("launcher has ended") == (2 if number == signal.SIGKILL else 0)


REFUSED = {
    (
        "--processes",
        "2",
        "corpus",
        "build",
    ): "launch corpus: runs in one process; launch takes run, pretrain, tune, eval",
    ("--processes", "1000000", "run", "recipe.yaml"): "--processes 1,000,000: this machine has cores for ",
    ("run",): "Missing option '--processes'",
}


@pytest.mark.parametrize("command", REFUSED)
def test_a_command_that_cannot_be_shared_is_refused(command: tuple[str, ...], cli: Cli) -> None:
    code, _, errors = cli("launch", *command)
    assert code == 2 and REFUSED[command] in errors


MEETS = """
from jmedllm.processes import process_group, rank, summed
for group in range(2):
    with process_group():
        print(summed(rank().global_rank + 1), flush=True)
"""


@pytest.mark.exhaustive
def test_processes_meet_in_one_group_after_another(
    worker: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a_worker.py").write_text(MEETS, encoding="utf-8")
    assert launcher.launch([], 2) == 0
    assert capfd.readouterr().out.split() == ["3.0"] * 4
