"""What other packages register."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from package import example, install

from jmedllm.errors import InputError
from jmedllm.plugins import plugins


def test_a_member_of_another_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "ANSWER = 42\n", scorers="mine = ANSWER")
    assert plugins("scorers", {"answer"}, int) == {"mine": 42}
    assert plugins("benchmarks", set(), int) == {}


@pytest.mark.parametrize(
    ("code", "entry", "problem"),
    [
        (
            "",
            "mine = ANSWER",
            "package outside, entry point jmedllm.scorers mine = outside:ANSWER: cannot be imported",
        ),
        ("import nowhere", "mine = ANSWER", "No module named 'nowhere'; fix or uninstall that package"),
        ("ANSWER = 42", "answer = ANSWER", "scorers already has answer; give it another name"),
        (
            "ANSWER = 42",
            "a,b = ANSWER",
            "the name has a comma, which separates names in options; give it another name",
        ),
        ("1 / 0", "mine = ANSWER", "cannot be imported: ZeroDivisionError: division by zero; fix or uninstall"),
        ("ANSWER = '42'", "mine = ANSWER", "mine = outside:ANSWER: is of type str, not int; fix or uninstall"),
    ],
)
def test_a_broken_member_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, entry: str, problem: str
) -> None:
    install(tmp_path, monkeypatch, code, scorers=entry)
    with pytest.raises(InputError) as error:
        plugins("scorers", {"answer"}, int)
    assert problem in str(error.value)


GROUPS = {"scorers": "eval", "benchmarks": "eval", "backends": "eval", "stages": "run"}


def test_help_names_members_of_other_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "", **{kind: f"our{kind} = ANY" for kind in GROUPS})
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}", "COLUMNS": "80"}
    for command in set(GROUPS.values()):
        call = [sys.executable, "-m", "jmedllm", command, "--help"]
        page = subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout
        for kind in GROUPS:
            assert (f"from other packages: our{kind}" in " ".join(page.split())) == (GROUPS[kind] == command), kind


def test_the_package_of_contributing_registers_the_scorer_of_its_example() -> None:
    project = tomllib.loads(example("Code layout", "toml"))
    assert project["project"]["entry-points"] == {"jmedllm.scorers": {"mention": "outside:MENTION"}}
    assert project["tool"]["setuptools"]["py-modules"] == ["outside"]
    assert "\nMENTION = Scorer(" in example("Add a scorer")


COMMANDS = {
    "scorers": "score x",
    "benchmarks": "data list",
    "backends": "eval --model m --benchmark demo --output o",
    "stages": "run r.yaml",
}


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_member_of_the_wrong_type_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    install(tmp_path, monkeypatch, "ANY = 3", **{kind: "ours = ANY"})
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    call = [sys.executable, "-m", "jmedllm", *COMMANDS[kind].split()]
    done = subprocess.run(call, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"package outside, entry point jmedllm.{kind} ours = outside:ANY: is of type int, not " in done.stderr


PHONES_HOME = """
import threading, urllib.request
def ask():
    try:
        urllib.request.urlopen("https://collect.example/v1", timeout=5)
    except OSError:
        pass
thread = threading.Thread(target=ask)
thread.start()
thread.join()
"""


def test_a_package_that_phones_home_in_a_thread_ends_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, PHONES_HOME + example("Add a benchmark"), benchmarks="nursingqa = BENCHMARK")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    call = [sys.executable, "-m", "jmedllm", "data", "list"]
    done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "nursingqa" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("error: outside, line 5, tried to look up collect.example; ")
