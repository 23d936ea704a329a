"""The key of a server is in no file of a run and in nothing that is printed, whatever the server sends back."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Cli, write_questions
from hostile_server import KEY, Attack, attacking, reply
from jmedllm.evaluation.scorers import SCORERS, GradedItemScore, Scorer

GRADE = Scorer(
    summary="a grade from the judge",
    needs="response",
    applies=lambda question: True,
    score_item=lambda output: GradedItemScore(0.5, "graded"),
    judge_prompt=lambda output: f"Grade: {output.presented.question.id}",
    binary=False,
)

SPELLED = KEY.replace("-", "\\u002d")


def answer(text: str, **fields: object) -> Attack:
    """Reply to a prompt or a chat, with a text in JSON."""
    message = {"text": "TEXT", "message": {"role": "assistant", "content": "TEXT"}}
    choice = {"index": 0, "finish_reason": "stop", "logprobs": None, **message}
    body = json.dumps({"id": "1", "object": "x", "created": 1, "model": KEY, "choices": [choice], **fields})
    return reply(body.replace("TEXT", text).encode(), f"X-Key: {KEY}")


ECHOES: list[Attack] = [
    reply(json.dumps({"error": {"message": f"wrong key {KEY}"}}).encode(), status="401 Unauthorized"),
    reply(json.dumps({"error": {"message": f"busy, {KEY}"}}).encode(), status="503 Busy"),
    reply(f"<html>{KEY}</html>".encode(), status="500 No", kind="text/html"),
    reply(f"half of {KEY}".encode()),
    reply(b"", f"Location: https://evil.example/?{KEY}", status="302 Found"),
    answer(f"c {KEY}", choices=[]),
    reply(f'{{"error": "{SPELLED}"}}'.encode(), status="400 Bad"),
]
"""Failures, each of which ends a command; the last one only without --skip-invalid."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCORERS, "grade", GRADE)
    monkeypatch.setenv("JMEDLLM_API_KEY", KEY)
    monkeypatch.setattr("jmedllm.models.backends.openai.throttle.RETRIES", 0)


def evaluation(folder: Path, url: str, _: Path) -> list[list[object]]:
    exam = write_questions(folder / "exam.jsonl", count=3)
    given = ("eval", "--backend", "openai", "--server", f"{url}/v1", "--model", "m", "--benchmark", exam)
    judged = ("--scorer", "answer,grade", "--judge", f"{url}/v1#x", "--skip-invalid", "--batch-size", 1)
    out = folder / "out"
    first = [*given, "--language", "ja", "--selection", "all", *judged, "--output", out]
    return [first, ["report", out, "--html", out / "report.html"], ["score", out, "--json"]]


def recipe(folder: Path, url: str, model: Path) -> list[list[object]]:
    exam, file = write_questions(folder / "exam.jsonl", count=2), folder / "mine.yaml"
    settings = f"benchmarks: [{exam}], languages: [ja], selection: all, models: [base], scorers: [grade]"
    file.write_text(f"name: mine\nbase: {{path: {model}}}\neval: {{{settings}, judge: '{url}/v1#x'}}\n")
    return [["run", file, "--output", folder / "run"]]


@pytest.mark.parametrize("commands", [evaluation, recipe])
def test_no_file_and_no_line_has_the_key(
    cli: Cli, tmp_path: Path, tiny_model: Path, commands: Callable[[Path, str, Path], list[list[object]]]
) -> None:
    printed, codes = "", []
    failures = iter(ECHOES)
    fails = [True]

    def reply_in_turn(connection: object) -> None:
        does = next(failures, None) if fails[0] else None
        fails[0] = False
        (does or answer(f"c {SPELLED} {KEY}"))(connection)  # type: ignore[arg-type]

    with attacking(reply_in_turn) as server:
        first, *others = commands(tmp_path, server.url, tiny_model)
        for _ in range(len(ECHOES) + 2):
            fails[0] = True  # one failure, and the rest of the command is answered
            code, output, errors = cli(*first)
            codes.append(code)
            printed += output + errors
            if code == 0:
                break
        for command in others:
            code, output, errors = cli(*command)
            codes.append(code)
            printed += output + errors
    assert next(failures, None) is None
    assert codes[: len(ECHOES) - 1] == [2] * (len(ECHOES) - 1), printed
    assert codes[-1 - len(others) :] == [0] * (1 + len(others)), printed
    assert any(KEY in request for request in server.seen), "the server gets it"
    assert KEY not in printed and "[API key]" in printed
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 4
    assert [file for file in files if KEY.encode() in file.read_bytes()] == []
