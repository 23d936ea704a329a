"""What is printed: nothing that a terminal would obey, and no key."""

import io
import json
import sys
from pathlib import Path

import pytest
from rich.text import Text

from conftest import Cli
from jmedllm.console import SafeConsole
from jmedllm.markdown import bullets, table
from jmedllm.output import SafeStream, keep_secret, redact, visible

ATTACKS = {
    "window title": ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),
    "clipboard": ("\x1b]52;c;cm0gLXJm\x1b\\", "\\u001b]52;c;cm0gLXJm\\u001b\\"),
    "clear the screen": ("\x1b[2J\x1b[H", "\\u001b[2J\\u001b[H"),
    "C1 control": ("\x9b31m", "\\u009b31m"),
    "line written over": ("wrong\rright", "wrong\\u000dright"),
    "rubbed out": ("wrong\x08\x08", "wrong\\u0008\\u0008"),
    "concealed": ("\x1b[8mhidden", "\\u001b[8mhidden"),
    "direction": ("\u202egnp.exe", "\\u202egnp.exe"),
    "isolate": ("\u2066a\u2069", "\\u2066a\\u2069"),
    "no width": ("a\u200bb", "a\\u200bb"),
    "tags": ("\U000e0041", "\\udb40\\udc41"),
}


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("text", "shown"), ATTACKS.values(), ids=ATTACKS)
def test_control_characters_are_escapes(text: str, shown: str) -> None:
    assert visible(text) == shown
    for stream in (Tty(), io.StringIO()):
        SafeStream(stream).write(text)
        assert stream.getvalue() == shown
    assert json.loads(visible(json.dumps({"a": text}, ensure_ascii=False))) == {"a": text}


PLAIN = {
    "Japanese and emoji": "発熱 38 ℃\t👨‍⚕️\n",
    "Windows line end": "a\r\nb\r\n",
    "progress bar of a library": "\r 50%|█████     | 1/2",
}


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
def test_texts_stay(text: str) -> None:
    stream = io.StringIO()
    assert SafeStream(stream).write(text) == len(text)
    assert stream.getvalue() == text


def test_colours_are_for_terminals() -> None:
    terminal, pipe = Tty(), io.StringIO()
    for stream in (terminal, pipe):
        SafeStream(stream).write("\x1b[31merror\x1b[0m\r\x1b[2K")
    assert terminal.getvalue() == "\x1b[31merror\x1b[0m\r\x1b[2K"
    assert pipe.getvalue() == "\\u001b[31merror\\u001b[0m\\u000d\\u001b[2K"


def test_a_secret_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmedllm.output._SECRETS", set())
    keep_secret("sk-0123456789abcdef")
    keep_secret("any")  # for a server without keys: no secret
    stream = io.StringIO()
    SafeStream(stream).write("any: Bearer sk-0123456789abcdef!\n")
    assert stream.getvalue() == "any: Bearer [API key]!\n"
    assert redact("any") == "any"


def test_errors_show_names_of_files_as_escapes(cli: Cli, tmp_path: Path) -> None:
    code, _, errors = cli("report", tmp_path / "\x1b]0;owned\x07\x1b[31m\u202e")
    assert code == 2 and "\\u001b]0;owned\\u0007\\u001b[31m\\u202e" in errors
    assert not {"\x1b", "\x07", "\u202e"} & set(errors)
    assert isinstance(sys.stderr, SafeStream)


@pytest.mark.parametrize(("text", "shown"), ATTACKS.values(), ids=ATTACKS)
def test_tables_and_previews_show_escapes(text: str, shown: str) -> None:
    stream = Tty()
    SafeConsole(file=stream, width=200, force_terminal=True).print(Text(f"a {text}", style="bold"), soft_wrap=True)
    plain = {"\\u0007": "", "\\u0008": "", "\\u000d": ""}  # rich leaves these out
    for escape, left in plain.items():
        shown = shown.replace(escape, left)
    assert stream.getvalue() == f"\x1b[1ma {shown}\x1b[0m\n"


def test_a_name_in_markdown_is_no_html_and_stays_in_its_cell() -> None:
    name = "<script>alert(1)</script>|a\n# b\x1b[2J, p < 0.05"
    shown = "&lt;script>alert(1)&lt;/script>{bar}a # b\\u001b[2J, p < 0.05"
    assert bullets([name]) == f"- {shown.format(bar='|')}"
    assert table(["x"], [[name]]).splitlines()[2:] == [f"| {shown.format(bar=chr(92) + '|')} |"]
