"""Every command and every option: what --help says of them, at 80 columns."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from jmedllm.cli import app
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.selection import SELECTIONS
from jmedllm.models.backends import BACKENDS
from jmedllm.stages import STAGES

ROOT = Path(__file__).parent.parent


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, (*words, name))


COMMANDS = {" ".join(words): command for words, command in commands(typer.main.get_command(app))}
PACKS = sorted(folder.name for folder in (ROOT / "src/jmedllm/evaluation/prompts/packs").iterdir() if folder.is_dir())


def record(parameter: Any) -> tuple[str, str]:
    name, text = parameter.get_help_record(typer.Context(typer.main.get_command(app)))
    return name, text


def help_of(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert app([*command.split(), "--help"], prog_name="jmedllm", standalone_mode=False) in (0, None)
    return capsys.readouterr().out


def retired() -> Callable[[str], list[str]]:
    """Finds the retired words of a text."""
    spec = importlib.util.spec_from_file_location("retired_words", ROOT / "tools" / "retired_words.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda text: [word for _, word, _, _ in module.search(text, module.compiled(), ROOT / "help", 1)]


def choices(name: str) -> list[str]:
    """Those that --help names: <auto|cpu|cuda>."""
    found = re.search(r"<(\w+(?:\|\w+)+)>", name)
    return found[1].split("|") if found else []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_help_text_with_choices_and_default(command: str) -> None:
    for parameter in options(command):
        assert not parameter.hidden, f"{parameter.name}: a second spelling that --help does not show"
        name, text = record(parameter)
        sentence = text.partition("  [")[0]
        assert re.match(r"[A-Z.].*\.$", sentence), f"{name}: not a sentence: {sentence!r}"
        assert not re.search(r"\[(?!default|env var|required|x)", text), (
            f"{name}: a default outside [default: ]: {text}"
        )
        assert parameter.required or is_flag(parameter) or "default: " in text, f"{name} has no default: {text}"
        for choice in choices(name):
            assert re.search(rf"\b{choice} \(\S+ [^)]+\)", sentence), f"{name}: {choice} is not explained: {sentence}"


def is_flag(parameter: Any) -> bool:
    return getattr(parameter, "is_flag", False)


def options(command: str) -> list[Any]:
    return [each for each in COMMANDS[command].params if "completion" not in each.name]  # these are typer's own


REGISTRIES: dict[str, Iterable[str]] = {
    "eval scorer": SCORERS, "score scorer": SCORERS, "eval backend": BACKENDS,
    "eval selection": SELECTIONS, "score selection": SELECTIONS, "eval prompt": PACKS,
    "run until": STAGES,
}  # fmt: skip


@pytest.mark.parametrize("option", REGISTRIES)
def test_help_explains_every_member_of_a_registry(option: str) -> None:
    command, name = option.split()
    [parameter] = [each for each in options(command) if each.name == name]
    for member in REGISTRIES[option]:
        assert re.search(rf"\b{member} \(\S+ [^)]+\)", parameter.help), f"--{name} does not explain {member}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_80_columns_uncut_in_the_project_s_words(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = help_of(command, monkeypatch, capsys)
    assert max(map(len, page.splitlines())) <= 80 and "...." not in page
    for name in getattr(COMMANDS[command], "commands", {}):
        summary = COMMANDS[command].commands[name].get_short_help_str(1_000)
        assert re.search(rf"^  {name} +{re.escape(summary)}$", page, re.MULTILINE), (
            f"{name}: cut or wrapped: {summary}"
        )
    assert "--version" in page and "--help" in page
    assert not retired()(" ".join(page.split()))
    summary = COMMANDS[command].get_short_help_str(1_000)
    assert summary.endswith("."), summary


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_prints_the_version(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert app([*command.split(), "--version"], prog_name="jmedllm", standalone_mode=False) == 0
    assert re.fullmatch(r"jmedllm \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_help_imports_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "jmedllm", "--help"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    listed = re.findall(r"^  (\w+)  ", printed.stdout, re.MULTILINE)
    assert {"init", "plan", "run", "pretrain", "tune", "merge", "eval", "score", "report", "data"} <= set(listed)
    imported = {line.rpartition("|")[2].strip() for line in printed.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "numpy", "scipy", "pydantic", "yaml", "jinja2", "rich"}


def test_a_shell_completes_commands_and_choices() -> None:
    def completed(words: str, count: int) -> list[str]:
        variables = {"_JMEDLLM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
        line = [sys.executable, "-m", "jmedllm"]
        found = subprocess.run(line, capture_output=True, text=True, check=True, env={**os.environ, **variables})
        return found.stdout.split()

    assert sorted(completed("jmedllm co", 1)) == ["compare", "convert", "corpus"]
    assert completed("jmedllm merge --device c", 3) == ["cpu", "cuda"]
