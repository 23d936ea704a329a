"""Every command with every kind of wrong path: one line that says what is wrong, exit code 2, no traceback."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import write_questions
from jmedllm.cli import main
from jmedllm.files import write_atomic

DEPTH = 5_000


def folder(path: Path) -> Path:
    path.mkdir()
    (path / "notes.docx").write_bytes(b"PK\x03\x04")
    return path


def empty_folder(path: Path) -> Path:
    path.mkdir()
    return path


def written(content: bytes) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content)
        return path

    return write


def dangling_link(path: Path) -> Path:
    path.symlink_to(path.with_name("nowhere"))
    return path


def circular_link(path: Path) -> Path:
    path.symlink_to(path)
    return path


def below_a_file(path: Path) -> Path:
    path.write_text("x")
    return path / f"below{path.suffix}"


def long_name(path: Path) -> Path:
    return path.with_name("n" * 300 + path.suffix)


def not_utf_8(path: Path) -> Path:
    return path.with_name(os.fsdecode("診療".encode("cp932")) + path.suffix)


def device(path: Path) -> Path:
    """By a link, so that what takes its place is not the device of the whole machine."""
    path.symlink_to(os.devnull)
    return path


def unreadable(path: Path) -> Path:
    """Permissions bind no root; this file gives an error on every read, whoever asks."""
    path.symlink_to("/proc/self/mem")
    return path


Kinds = dict[str, Callable[[Path], Path]]

PATHS: Kinds = {
    "nothing": lambda path: path,
    "a folder": folder,
    "an empty folder": empty_folder,
    "an empty file": written(b""),
    "a binary file": written(bytes(range(256)) * 8),
    "a dangling link": dangling_link,
    "a circular link": circular_link,
    "below a file": below_a_file,
    "a long name": long_name,
    "a name that is no UTF-8": not_utf_8,
    "a file that cannot be read": unreadable,
    "a device": device,
}
CONTENTS: Kinds = {
    "UTF-16": written("{'a': 診}\n".encode("utf-16")),
    "deep JSON": written(b"[" * DEPTH),
    "deep JSON in an object": written(b'{"id": "a", "x": ' + b'{"a":' * DEPTH + b"1" + b"}" * (DEPTH + 1)),
    "a number of 6,000 digits": written(b'{"id": "q0", "a": ' + b"9" * 6_000 + b"}"),
    "a list": written(b"[1, 2]"),
    "a bare word": written(b"word"),
    "half a character": written(b'{"id": "\\ud800", "response": "\\ud800", "question": "\\ud800"}'),
}
OUTPUTS: Kinds = {
    name: PATHS[name]
    for name in (
        "a folder", "a binary file", "a dangling link", "a circular link", "below a file", "a long name",
        "a name that is no UTF-8", "a device",
    )
} | {"where nobody may write": lambda path: Path("/proc/nobody") / path.name}  # fmt: skip

EXAM = "--benchmark {good}/exam.jsonl"
TO = "--output {here}/o"
READING = {
    f"eval --model {{bad}} {EXAM} {TO}": PATHS,
    f"eval --model {{model}} --benchmark {{bad.jsonl}} {TO}": PATHS | CONTENTS,
    f"eval --model {{model}} --adapter {{bad}} {EXAM} {TO}": PATHS,
    f"eval --model {{model}} --prompt {{bad}} {EXAM} {TO}": PATHS,
    f"eval --model {{model}} --shots {{bad.jsonl}} {EXAM} {TO}": PATHS | CONTENTS,
    f"eval --model {{model}} --data {{bad}} --benchmark igakuqa {TO}": PATHS,
    "score {bad.jsonl} --questions {good}/exam.jsonl --language ja": PATHS | CONTENTS,
    "score {good}/replies.jsonl --questions {bad.jsonl} --language ja": PATHS | CONTENTS,
    "score {good}/replies.jsonl --benchmark igakuqa --data {bad}": PATHS,
    "report {bad}": PATHS,
    "report {good}/out --html {here}/page.html --questions {bad.jsonl}": PATHS | CONTENTS,
    "compare {bad}": PATHS,
    "init {here}/new.yaml --base {bad} --benchmark {good}/exam.jsonl": PATHS,
    "init {here}/new.yaml --base {model} --texts {bad.jsonl}": PATHS | CONTENTS,
    "init {here}/new.yaml --base {model} --questions {bad.jsonl}": PATHS | CONTENTS,
    "init {here}/new.yaml --base {model} --instructions {bad.jsonl}": PATHS | CONTENTS,
    "init {here}/new.yaml --base {model} --benchmark {bad.jsonl}": PATHS | CONTENTS,
    "plan {bad.yaml}": PATHS,
    "run {bad.yaml} --check": PATHS | CONTENTS,
    "pretrain {bad.yaml}": PATHS,
    "tune {bad.yaml}": PATHS,
    f"merge --model {{bad}} --adapter {{adapter}} {TO}": PATHS,
    f"merge --model {{model}} --adapter {{bad}} {TO}": PATHS,
    f"merge --model {{model}} --adapter {{adapter}} --text {{bad}} {TO}": PATHS,
    f"convert {{bad.gguf}} {TO}": PATHS,
    "tokens --tokenizer {bad} {good}/text.txt": PATHS,
    "tokens --tokenizer {model} {bad.jsonl}": PATHS | CONTENTS,
    "tokens --tokenizer {model} --terms {bad.csv}": PATHS | CONTENTS,
    "data get jmmlu --mirror {bad} --data {here}/d": PATHS,
    "data check jmmlu --data {bad}": PATHS,
    f"corpus build {{bad.jsonl}} --data {{good}} {TO}": PATHS | CONTENTS,
    f"corpus build {{good}}/text.txt --data {{bad}} {TO}": {
        kind: make
        for kind, make in PATHS.items()
        if "folder" not in kind  # for one without benchmarks there is a warning
    },
    f"corpus build {{good}}/text.txt --tokenizer {{bad}} --data {{good}} {TO}": PATHS,
    "export lm-eval --benchmark {bad.jsonl} --output {here}/t": PATHS | CONTENTS,
}
"""What is read; {bad} stands for the wrong path."""

WRITING = (
    f"eval --model {{model}} {EXAM} --limit 1 --max-new-tokens 2 --scorer legacy --output {{bad}}",
    "score {good}/replies.jsonl --questions {good}/exam.jsonl --language ja --items {bad}",
    "report {good}/out --output {bad}",
    "report {good}/out --questions {good}/exam.jsonl --html {bad}",
    "init {bad.yaml} --base {model} --benchmark {good}/exam.jsonl",
    "run {good}/recipe.yaml --until corpus --output {bad}",
    "merge --model {model} --adapter {adapter} --output {bad}",
    "convert {good}/text.txt --output {bad}",
    "data get jmmlu --mirror {good} --data {bad}",
    "corpus build {good}/text.txt --data {good} --output {bad}",
    "export lm-eval --benchmark {good}/exam.jsonl --output {bad}",
)
"""Where something is written: a place that will do is no error, but no place is a traceback."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder of files that are as they should be."""
    here = tmp_path_factory.mktemp("good")
    write_questions(here / "exam.jsonl")
    (here / "replies.jsonl").write_text('{"id": "q0", "response": "c"}\n', encoding="utf-8")
    (here / "text.txt").write_text("壊血病はビタミンCの欠乏で起こる。", encoding="utf-8")
    (here / "recipe.yaml").write_text(
        f"name: t\nbase: {{path: {tiny_model}}}\ncorpus: {{inputs: [{here}/text.txt]}}\n"
        "mfpt: {steps: 1, learning_rate: 1e-3}\n",
        encoding="utf-8",
    )
    command = f"eval --model {tiny_model} --benchmark {here}/exam.jsonl --output {here}/out --max-new-tokens 2"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(sys, "argv", ["jmedllm", *command.split()])
        main()
    return here


Call = Callable[[str, str, Callable[[Path], Path]], tuple[int, list[str]]]


@pytest.fixture
def call(
    good: Path, tiny_model: Path, tiny_adapter: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> Call:  # fmt: skip
    """Run a command with a wrong path; returns its exit code and the lines that say what is wrong."""

    def run(command: str, kind: str, make: Callable[[Path], Path]) -> tuple[int, list[str]]:
        here = tmp_path / str(len(list(tmp_path.iterdir())))
        here.mkdir()
        monkeypatch.chdir(here)
        places = {"here": here, "good": good, "model": tiny_model, "adapter": tiny_adapter}
        suffix = command.partition("{bad")[2].partition("}")[0]
        bad = str(make(here / f"bad{suffix}"))
        words = [word.replace(f"{{bad{suffix}}}", bad) for word in command.split()]
        for name, place in places.items():
            words = [word.replace(f"{{{name}}}", str(place)) for word in words]
        monkeypatch.setattr(sys, "argv", ["jmedllm", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        errors = capsys.readouterr().err
        assert "Traceback" not in errors, f"{kind}: {errors}"
        return int(ended.value.code or 0), [line for line in errors.splitlines() if line.startswith("error: ")]

    return run


@pytest.mark.parametrize("command", READING)
def test_a_wrong_path_is_one_line(call: Call, command: str) -> None:
    for kind, make in READING[command].items():
        code, lines = call(command, kind, make)
        assert (code, len(lines)) == (2, 1), f"{kind}: exit {code}, {lines}"


@pytest.mark.parametrize("command", WRITING)
def test_no_place_to_write_is_a_traceback(call: Call, command: str) -> None:
    for kind, make in OUTPUTS.items():
        if command.startswith("merge") and kind in ("a dangling link", "a name that is no UTF-8"):
            continue  # these will do, and take seconds
        code, lines = call(command, kind, make)
        assert (code, len(lines)) in ((0, 0), (2, 1)), f"{kind}: exit {code}, {lines}"


BROKEN = {
    "{% for %}": "is broken: line 1: ",
    "a\n{{ messages[0 }}": "is broken: line 2: ",
    "{% if messages %}": "is broken: line 1: ",
    "{{ messages | nonsense }}": "is broken: line 1: No filter named 'nonsense'",
    "{{ 1 / 0 }}": "refuses this conversation: division by zero",
    "{{ 'a' + 1 }}": "refuses this conversation: can only concatenate str",
    "{{ messages.x.y }}": "refuses this conversation: ",
    "{{ raise_exception('none of yours') }}": "refuses this conversation: none of yours",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "refuses this conversation: maximum",
}


def test_a_broken_chat_template_is_one_line(call: Call, tiny_model: Path, tmp_path: Path) -> None:
    for number, (template, reason) in enumerate(BROKEN.items()):
        model = Path(shutil.copytree(tiny_model, tmp_path / f"model-{number}"))
        (model / "chat_template.jinja").write_text(template, encoding="utf-8")
        command = f"eval --model {{bad}} {EXAM} --limit 1 --max-new-tokens 2 --chat {TO}"
        code, [line] = call(command, template, lambda path, model=model: model)  # type: ignore[misc]
        assert code == 2 and line.startswith(f"error: the model's chat template {reason}"), line


def test_a_device_is_written_and_stays_one(tmp_path: Path) -> None:
    """A report written to /dev/null put a plain file in the place of the device, for the whole machine."""
    link = device(tmp_path / "null")
    write_atomic(link, "text")
    assert link.is_symlink() and link.is_char_device() and list(tmp_path.iterdir()) == [link]
