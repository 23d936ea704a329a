"""`jmedllm chat` with a scripted server."""

import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from select import select

import pytest
from scripted_server import Reply, ScriptedServer, question, serving

from jmedllm.errors import InputError
from jmedllm.named_server import ClientOptions
from jmedllm.serving.client import ChatClient, key_for
from jmedllm.serving.terminal import Conversation, Terminal, converse

EXAM = ["/exam", "壊血病の原因はどれか。", "a　ビタミンA", "b　ビタミンB1", "c　ビタミンC", "正解 c", ""]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving() as server:
        yield server


@pytest.fixture
def chat(server: ScriptedServer) -> Callable[..., str]:
    """Return a function that types lines and returns what the terminal shows."""

    def chat(*lines: str, is_dim: bool = False) -> str:
        client, typed, shown = ChatClient(server.url), iter(lines), list[str]()

        def read(prompt: str) -> str:
            try:
                return next(typed)
            except StopIteration:
                raise EOFError from None

        converse(Conversation(client, client.model()), Terminal(read, shown.append, is_dim=is_dim))
        return "".join(shown)

    return chat


def test_a_conversation(chat: Callable[..., str], server: ScriptedServer, tmp_path: Path) -> None:
    saved = tmp_path / "chat.md"
    shown = chat(
        "/help", "/system Be brief.", "/set temperature 0.7", "first", "second", "/regenerate", f"/save {saved}"
    )
    assert shown.count("not a medical device") == 1
    assert "/regenerate" in shown
    assert shown.count("You asked: second") == 2
    last, again = server.requests[-2:]
    assert last == again
    assert last["temperature"] == 0.7
    assert [message["content"] for message in last["messages"]] == ["Be brief.", "first", "You asked: first", "second"]
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert "You asked: second" in saved.read_text()


def test_an_answer_that_cannot_be_regenerated_stays(
    chat: Callable[..., str], server: ScriptedServer, tmp_path: Path
) -> None:
    saved = tmp_path / "chat.md"
    replies = iter([Reply(["Kept."]), Reply(status=503, message="all slots are busy")])
    server.reply = lambda body: next(replies)
    assert "all slots are busy" in chat("first", "/regenerate", f"/save {saved}")
    assert "Kept." in saved.read_text()


def test_a_question_with_choices(chat: Callable[..., str], server: ScriptedServer) -> None:
    shown = chat("before", *EXAM)
    assert server.requests[-1]["structured_outputs"] == {"choice": ["a", "b", "c"]}
    assert len(server.requests[-1]["messages"]) == 1
    assert "answer: c" in shown
    assert re.search(r" %  #+ +c\. ビタミンC\n", shown)
    assert "left out: 正解 c" in shown
    assert sum(map(float, re.findall(r"([\d.]+) %  ", shown))) == pytest.approx(100, abs=0.2)
    assert "not calibrated" in shown


def test_thoughts_are_dim_and_control_characters_are_escapes(chat: Callable[..., str], server: ScriptedServer) -> None:
    server.reply = lambda body: Reply(("\x1b]0;title\x07", "\u202egnp.exe\n"), thought=("Well.\x1b[31m",))
    assert "\x1b[2mWell.\\u001b[31m\x1b[0m\n\n\\u001b]0;title\\u0007\\u202egnp.exe\n" in chat("question", is_dim=True)
    assert "\x1b" not in chat("question")


ERRORS = {
    "/unknown": "/unknown: no such command; /help lists them",
    "/set heat 1": "/set heat 1: give one of temperature",
    "/set temperature hot": "/set temperature: takes a number; found 'hot'",
    "/set temperature nan": "takes a number; found 'nan'",
    "/set thinking on": "the template of this model has no switch",
    "/regenerate": "there is no question yet",
    "/save": "give a file",
    "/save /nowhere/else/chat.md": "/nowhere",
    "/exam": "no choices found",
    "refuse": "server http://127.0.0.1:PORT: temperature: not below 0",
    "cut": "ended in the middle of the answer",
}


@pytest.mark.parametrize("line", ERRORS)
def test_a_mistake_is_one_line_and_the_chat_goes_on(
    chat: Callable[..., str], server: ScriptedServer, line: str
) -> None:
    def reply(body: dict[str, object]) -> Reply:
        if question(body) == "refuse":
            return Reply(status=400, message="temperature: not below 0")
        return Reply(cut=question(body) == "cut")

    server.reply = reply
    shown = chat(line, "", "go on")
    assert f"error: {ERRORS[line]}" in re.sub(r"1:\d+", "1:PORT", shown) or ERRORS[line] in shown
    assert "An answer." in shown


def test_a_server_that_does_not_answer_and_a_wrong_key(server: ScriptedServer) -> None:
    with pytest.raises(InputError, match=r"no answer .* start one with: jmedllm deploy serve"):
        ChatClient("http://127.0.0.1:9").model()
    server.key = "right"
    with pytest.raises(InputError, match="wrong key; give its key with --key-file"):
        ChatClient(server.url, "wrong").model()
    assert ChatClient(server.url, "right").model().name == "medical-8b"


def test_the_key_of_this_machine_goes_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("JMEDLLM_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    (tmp_path / "jmedllm").mkdir()
    (tmp_path / "jmedllm" / "key").write_text("our key\n")
    default, named = ClientOptions(), ClientOptions(key_env="OPENAI_API_KEY")
    assert key_for("http://127.0.0.1:8080", None, default) == "our key"
    assert key_for("http://127.0.0.1:8080", None, named) == "theirs"
    assert key_for("http://example.com", None, default) is None
    assert key_for("http://127.0.0.1.example.com", None, default) is None
    monkeypatch.setenv("JMEDLLM_API_KEY", "mine")
    assert key_for("http://example.com", None, default) == "mine"
    assert key_for("http://127.0.0.1:8080", None, default) == "our key"
    (tmp_path / "jmedllm" / "key").unlink()
    assert key_for("http://127.0.0.1:8080", None, default) == "mine"  # of another program


def command(server: ScriptedServer, *options: str) -> list[str]:
    return [sys.executable, "-m", "jmedllm", "chat", "--server", server.url, *options]


@pytest.mark.exhaustive
def test_a_pipe_is_answered_line_by_line(server: ScriptedServer) -> None:
    run = subprocess.run(command(server), input="first\n\nsecond\r\n", capture_output=True, text=True, check=True)
    assert run.stdout == "You asked: first\nYou asked: second\n"
    assert "not a medical device" in run.stderr
    assert len(server.requests[-1]["messages"]) == 1


@pytest.mark.exhaustive
def test_a_pipe_that_is_not_utf_8(server: ScriptedServer) -> None:
    run = subprocess.run(command(server), input="first\n発熱\n".encode("shift_jis"), capture_output=True, check=False)
    assert (run.returncode, run.stdout) == (2, b"You asked: first\n")
    assert b"error: line 2 of the input is not UTF-8; convert it with iconv" in run.stderr


@pytest.mark.exhaustive
def test_a_pipe_as_json(server: ScriptedServer) -> None:
    run = subprocess.run(command(server, "--json"), input="a\nb", capture_output=True, text=True, check=True)
    assert [json.loads(line)["answer"] for line in run.stdout.splitlines()] == ["You asked: a", "You asked: b"]


@pytest.mark.exhaustive
def test_ctrl_c_stops_an_answer_and_twice_ends(server: ScriptedServer, tmp_path: Path) -> None:
    server.reply = lambda body: Reply([f"{number} " for number in range(2000)], wait=0.01)
    ours, theirs = pty.openpty()
    history = tmp_path / "history"
    process = subprocess.Popen(
        command(server, "--history", str(history)), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    shown = ""

    def is_shown(text: str, seconds: float) -> bool:
        nonlocal shown
        deadline = time.monotonic() + seconds
        while text not in shown:
            if not select([ours], [], [], max(deadline - time.monotonic(), 0))[0]:
                return False
            shown += os.read(ours, 4096).decode(errors="replace")
        return True

    def until(text: str) -> None:
        assert is_shown(text, 60), shown

    def interrupt(text: str) -> None:
        # CPython notes a signal between readline's prompt and its wait for a key, but reads on until the next one.
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            if is_shown(text, 10):
                return
        raise AssertionError(shown)

    until("> ")
    os.write(ours, b"count\n")
    until(" 12 ")
    interrupt("(stopped)\r\n> ")
    interrupt("Ctrl-C again ends; /quit, too)\r\n> ")
    interrupt("> \r\n")
    assert process.wait(60) == 0
    assert "count" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert server.ended == ["client left"]
