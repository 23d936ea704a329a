"""What other packages register."""

from pathlib import Path

import pytest
from package import install

from jmedllm.errors import InputError
from jmedllm.plugins import plugins


def test_a_member_of_another_package_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "ANSWER = 42\n", scorers="mine = ANSWER")
    assert plugins("scorers", {"answer"}) == {"mine": 42}
    assert plugins("benchmarks", set()) == {}


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
    ],
)
def test_a_broken_member_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, entry: str, problem: str
) -> None:
    install(tmp_path, monkeypatch, code, scorers=entry)
    with pytest.raises(InputError) as error:
        plugins("scorers", {"answer"})
    assert problem in str(error.value)
