"""The output on the page about planning is what the program prints."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from conftest import Cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "plan.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^`(jmedllm plan .*)` prints:\n\n```\n(.*?)```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_page_shows_an_output() -> None:
    assert len(SHOWN) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize(("command", "expected"), SHOWN, ids=[command for command, _ in SHOWN])
def test_the_shown_output_is_the_program_s(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, expected: str
) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)  # without benchmarks on disk
    monkeypatch.delenv("JMEDLLM_DATA", raising=False)
    code, output, errors = cli(*shlex.split(command)[1:])
    assert code == 0, errors
    assert _lines(output + errors) == _lines(expected)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
