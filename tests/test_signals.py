"""A signal ends a command as Ctrl-C does: one line, nothing left, and the same command resumes."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from conftest import Cli
from fork_server import Command, ForkServer
from jmedllm import signals
from jmedllm.errors import InputError

LINES = {
    signal.SIGINT: (130, "error: interrupted; run the same command again to resume\n"),
    signal.SIGTERM: (143, "error: interrupted by SIGTERM; run the same command again to resume\n"),
    signal.SIGHUP: (129, "error: interrupted by SIGHUP; run the same command again to resume\n"),
}
cleaned: list[str] = []


@pytest.fixture(autouse=True)
def no_signal_yet() -> Iterator[None]:
    cleaned.clear()
    signals._received[0] = float("-inf")
    hook = signals.sys.unraisablehook
    yield
    signals.sys.unraisablehook = hook


def plain(number: int) -> None:
    signal.raise_signal(number)
    cleaned.append("never")


def twice(number: int) -> None:
    try:
        signal.raise_signal(number)
    finally:
        signal.raise_signal(number)
        cleaned.append("all")


def cleaning_fails(number: int) -> None:
    try:
        signal.raise_signal(number)
    finally:
        raise InputError("cannot be closed")


def as_another_error(number: int) -> None:
    try:
        signal.raise_signal(number)
    except BaseException as error:
        raise RuntimeError("library") from error


def in_a_callback(number: int) -> None:
    class Dropped:
        def __del__(self) -> None:
            signal.raise_signal(number)

    signals.sys.unraisablehook = signals._raise_later  # pytest has its own
    Dropped()
    time.sleep(60)  # which the signal ends


@pytest.mark.parametrize("number", LINES, ids=lambda number: signal.Signals(number).name)
@pytest.mark.parametrize("command", [plain, twice, cleaning_fails, as_another_error, in_a_callback])
def test_a_signal_is_one_line(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: Callable[[int], None], number: int
) -> None:
    monkeypatch.setattr("jmedllm.data.check.check", lambda *_: command(number))
    code, output, errors = cli("data", "check", "igakuqa")
    assert (code, output, errors) == (LINES[number][0], "", LINES[number][1])
    assert cleaned == (["all"] if command is twice else [])


def test_a_signal_that_nohup_ignores_stays_ignored(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmedllm.data.check.check", lambda *_: (plain(signal.SIGHUP), [])[1])
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert cli("data", "check", "igakuqa")[0] == 0 and cleaned == ["never"]
    finally:
        signal.signal(signal.SIGHUP, before)


def started(forks: ForkServer, *command: object, waits_for: Callable[[], object]) -> Command:
    """Start a command and wait until it has come so far."""
    process = forks.start("-m", "jmedllm", *command)
    deadline = time.monotonic() + 120
    while not waits_for():
        assert process.poll() is None and time.monotonic() < deadline, process.stderr
        time.sleep(0.002)
    return process


def ended(process: Command, number: int) -> list[str]:
    """Send a signal to a command and its children, as a terminal does; return its last lines."""
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)
    assert process.wait() == LINES[number][0], process.stderr
    assert not psutil.wait_procs(children, timeout=60)[1]
    assert "Traceback" not in process.stderr
    return process.stderr.splitlines(keepends=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGHUP, *(pytest.param(n, marks=pytest.mark.exhaustive) for n in (signal.SIGINT, signal.SIGTERM))],
)
@pytest.mark.parametrize("command", ["build", pytest.param("deidentify", marks=pytest.mark.exhaustive)])
def test_processes_of_a_corpus_end_with_it(tmp_path: Path, forks: ForkServer, command: str, number: int) -> None:
    folder, output = tmp_path / "texts", tmp_path / "out"
    folder.mkdir()
    for name in "ab":
        lines = (f"第{name}{line}項。患者は{line * 7919 % 90}歳、壊血病と診断された。\n" * 3 for line in range(30_000))
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    work = ("corpus", command, folder, "--output", output, "--processes", 2)
    process = started(forks, *work, waits_for=lambda: [*output.rglob("*.tmp")])
    assert ended(process, number)[-1] == LINES[number][1]
    assert not [*output.rglob("*.tmp")]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_terminated_training_resumes(tmp_path: Path, forks: ForkServer) -> None:
    from test_pipeline import write_recipe

    recipe, run = write_recipe(tmp_path, steps=200), tmp_path / "run"
    metrics = run / "mfpt" / "metrics.jsonl"
    process = started(
        forks, "pretrain", recipe, "--output", run, waits_for=lambda: metrics.exists() and metrics.stat().st_size
    )
    assert ended(process, signal.SIGTERM)[-1] == LINES[signal.SIGTERM][1]
    assert not [*run.rglob("*.tmp")]
    done = len(metrics.read_bytes().splitlines())
    assert forks.run("-m", "jmedllm", "pretrain", recipe, "--output", run).returncode == 0
    steps = [json.loads(line)["step"] for line in metrics.read_text(encoding="utf-8").splitlines()]
    assert 0 < done < 200 and steps == [*range(1, 201)]
