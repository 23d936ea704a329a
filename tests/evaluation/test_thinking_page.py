"""The page on evaluating a thinking model: its commands run, in their order, against a scripted thinking model."""

import json
import re
import shlex
from pathlib import Path

import pytest

from jmedllm import cli
from thinking_server import SWITCHED, Script, serving

PAGE = Path(__file__).parents[2] / "docs" / "evaluation" / "thinking.md"
QUESTIONS = "".join(
    f'{{"id": "{number}", "question": "Finding {number}?", "choices": ["one", "two", "three"], "answer": "B"}}\n'
    for number in range(6)
)


def commands(url: str, exam: str) -> list[list[str]]:
    """The commands of the page, with an exam of our own that every clone has, and few tokens."""
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [shlex.split(line)[1:] for line in lines]
    replaced = {
        "http://127.0.0.1:8000/v1": url, "Qwen/Qwen3.5-27B": "m", "jmle2026": exam, "jmle2026,igakuqa119": exam,
        "answer,official": "answer", "YYYY-MM-DD": "2026-02-01",
    }  # fmt: skip
    return [[replaced.get(word, word) for word in words] for words in found]


def test_the_commands_lead_from_a_server_to_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JMEDLLM_API_KEY", "any")
    Path("exam.jsonl").write_text(QUESTIONS, encoding="utf-8")

    def answer(prompt: str, number: int) -> str:
        return "three" if "Finding 4" in prompt and number % 2 else "two"

    with serving(Script(answer=answer, template=SWITCHED, kind="llamacpp")) as server:
        steps = commands(server.url, "exam.jsonl")
        assert [step[0] for step in steps] == ["eval", "eval", "eval", "compare", "eval", "report"]
        printed = []
        for step in steps:
            cli.app(step, standalone_mode=False)
            printed.append(capsys.readouterr().out)
    assert "truncated" in printed[0] and "vote" in printed[1] and "pass@4" in printed[1]
    assert "without-thinking" in printed[3]
    assert Path("results/report.html").exists()
    thoughts = {name: reasoning_of(Path("results") / name) for name in ("on", "off")}
    assert len(thoughts["on"]) == 24 and all(thoughts["on"]) and not any(thoughts["off"])


def reasoning_of(folder: Path) -> list[str | None]:
    [samples] = folder.glob("*.samples.jsonl")
    return [json.loads(line)["reasoning"] for line in samples.read_text(encoding="utf-8").splitlines()]
