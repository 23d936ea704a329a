"""Files are whole or not there, and an error names the file, the line and what is wrong."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jmedllm.errors import InputError
from jmedllm.files import (
    atomic_folder,
    hash_file,
    hash_text,
    read_json,
    read_jsonl,
    to_json,
    try_jsonl,
    write_atomic,
    write_jsonl,
)
from jmedllm.locks import locked

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def message(action: Callable[[], Any]) -> str:
    """The one line of the `InputError` that `action` ends in."""
    with pytest.raises(InputError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("text", ["", "壊血病\r\nscurvy\n", "\ufeff𠮷"], ids=["empty", "lines", "rare"])
def test_written_bytes_are_on_disk(tmp_path: Path, text: str) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_atomic(path, "old and longer than the new one")
    write_atomic(path, text)
    assert path.read_bytes() == text.encode()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_atomic, lambda path, text: write_jsonl(path, [text])])
def test_a_place_below_a_file_cannot_be_written(tmp_path: Path, write: Callable[[Path, str], None]) -> None:
    (tmp_path / "file").write_text("here")
    path = tmp_path / "file" / "a.txt"
    assert message(lambda: write(path, "text")) == (
        f"cannot write {path}: {path.parent} is not a folder; free space or choose another place"
    )
    below = path / "b.txt"
    assert message(lambda: write(below, "text")) == (
        f"cannot write {below}: Not a directory; free space or choose another place"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_not_overwritten_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "a" / "kept").mkdir(parents=True)
    assert "cannot write" in message(lambda: write_atomic(tmp_path / "a", "text"))
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "kept"]


def test_text_that_cannot_be_encoded_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "half \ud83d")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models
from jmedllm.training.packing import save_blocks
from jmedllm.errors import InputError
from jmedllm.files import append_jsonl, atomic_folder, write_atomic

folder = Path(sys.argv[1])
numbers = np.zeros((100, 100), np.int32)
words = Tokenizer(models.WordLevel({f"word{i}": i for i in range(5000)}))

def weights(path):
    with atomic_folder(path, "model.safetensors") as temporary:
        save_file({"x": numbers}, temporary / "model.safetensors")

def tokenizer(path):
    with atomic_folder(path, "tokenizer.json") as temporary:
        words.save(str(temporary / "tokenizer.json"))

WAYS = {
    "text": lambda path: write_atomic(path, "x" * 5000),
    "blocks/ids.npy": lambda path: save_blocks(zip(numbers, numbers, numbers > 0), 100, path.parent),
    "weights": weights,
    "tokenizer": tokenizer,
}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for name, write in WAYS.items():
    write(folder / name)
sizes = {name: (folder / name).stat().st_mtime_ns for name in WAYS}
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for name, write in WAYS.items():
    try:
        write(folder / name)
    except InputError as error:
        print(str(error).replace(str(folder), "DISK"))
assert {name: (folder / name).stat().st_mtime_ns for name in WAYS} == sizes
print(sorted(path.name for path in folder.iterdir()))
rows = folder / "rows.jsonl"
for length in (500, 900, 300):  # the second does not fit, and the third must not continue its part
    try:
        append_jsonl(rows, ["x" * length])
    except InputError as error:
        print(str(error).replace(str(folder), "DISK"))
print([len(line) for line in rows.read_text().splitlines()])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_full_disk_is_one_line_and_keeps_what_was_there(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=True
    )
    fix = "; free space or choose another place"
    text, blocks, weights, tokenizer, left, row, rows = result.stdout.splitlines()
    assert row == f"cannot write DISK/rows.jsonl: File too large{fix}" and rows == "[502, 302]"
    assert text == f"cannot write DISK/text: File too large{fix}"
    assert blocks == f"cannot write DISK/blocks/ids.npy: File too large{fix}"
    assert weights.startswith("cannot write DISK/weights: ") and "os error 27" in weights
    assert tokenizer == f"cannot write DISK/tokenizer: File too large (os error 27){fix}"
    assert left == "['blocks', 'text', 'tokenizer', 'weights']"
    assert result.stderr == ""


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model"
    for name in ("first", "second"):
        with atomic_folder(target, "mark") as temporary:
            (temporary / "mark").touch()
            (temporary / name).write_text(name)
            assert not (target / name).exists()
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == [
        "new",
        "new/model",
        "new/model/mark",
        "new/model/second",
    ]


def test_a_folder_is_on_the_disk_before_it_is_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    replaced: list[set[int]] = []
    fsync, replace = os.fsync, Path.replace

    def noted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def move(path: Path, target: Path) -> Path:
        replaced.append({each.stat().st_ino for each in (path, *path.rglob("*"))} - set(synced))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(Path, "replace", move)
    with atomic_folder(tmp_path / "model", "mark") as temporary:
        (temporary / "below").mkdir()
        (temporary / "below" / "numbers").write_bytes(bytes(5000))
        (temporary / "mark").touch()
    assert replaced == [set()] and synced[-1] == tmp_path.stat().st_ino


def test_a_foreign_folder_is_not_replaced(tmp_path: Path) -> None:
    thesis = tmp_path / "home" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")

    def write() -> None:
        with atomic_folder(tmp_path / "home", "mark"):
            pytest.fail("must not get here")

    assert message(write) == f"{tmp_path}/home has files that jmedllm did not write; choose another --output"
    assert thesis.read_text() == "years of work"


@pytest.mark.parametrize("error", [ValueError("ours"), KeyboardInterrupt(), InputError("the user's")])
def test_a_folder_that_fails_leaves_the_old_one(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "model"
    with atomic_folder(target, "old") as temporary:
        (temporary / "old").write_text("old")
    with pytest.raises(type(error)) as raised, atomic_folder(target, "old") as temporary:
        (temporary / "new").write_text("new")
        raise error
    assert raised.value is error
    assert list(tmp_path.iterdir()) == [target]
    assert [p.name for p in target.iterdir()] == ["old"]


def test_files_of_a_killed_process_with_the_same_id_are_not_part_of_a_folder(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "model", "whole") as temporary:
        (temporary / "whole").touch()
        left = temporary
    (left / "half").mkdir(parents=True)
    with atomic_folder(tmp_path / "model", "whole") as temporary:
        assert temporary == left
        (temporary / "whole").write_text("")
    assert [p.name for p in tmp_path.rglob("*")] == ["model", "whole"]


@pytest.mark.parametrize("moment", ["old out of the way", "old half removed", "new half written"])
def test_a_kill_while_a_folder_is_replaced_locks_nothing(tmp_path: Path, moment: str) -> None:
    folder, nobody = tmp_path / "model", 2**22 + 1  # above the highest process number
    left = tmp_path / f".model.{nobody}.{'tmp' if moment == 'new half written' else 'old'}"
    left.mkdir()
    (left / "half").write_text("x", encoding="utf-8")
    if moment != "old out of the way":
        folder.mkdir()
        (folder / "mark").write_text("", encoding="utf-8")
    with atomic_folder(folder, "mark") as temporary:
        (temporary / "mark").write_text("new", encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (folder / "mark").read_text(encoding="utf-8") == "new"


def test_a_lock_removes_what_killed_processes_have_left(tmp_path: Path) -> None:
    nobody = 2**22 + 1  # above the highest process number
    (tmp_path / "eval" / f".model.{nobody}.tmp").mkdir(parents=True)
    kept = [f".rows.{os.getppid()}.tmp", ".rows.tmp", "rows.1.tmp", "manifest.json"]
    for name in (f".manifest.json.{nobody}.tmp", f".old.{nobody}.old", *kept):
        (tmp_path / "eval" / name).write_text("{}")
    with locked(tmp_path):
        assert sorted(path.name for path in (tmp_path / "eval").iterdir()) == sorted(kept)


def test_the_work_of_a_living_process_stays(tmp_path: Path) -> None:
    theirs = tmp_path / f".model.{os.getppid()}.tmp"
    theirs.mkdir()
    with atomic_folder(tmp_path / "model", "mark") as temporary:
        (temporary / "mark").write_text("", encoding="utf-8")
    assert theirs.is_dir()


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    path = tmp_path / "file" / "model"

    def write() -> None:
        with atomic_folder(path, "mark"):
            pytest.fail("must not get here")

    assert message(write).startswith(f"cannot write {path}: ")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


BROKEN_LINES = {
    "broken": (b'{"a": 1}\n\n{"a": \n', 3, "broken JSON: Expecting value; fix or remove the line"),
    "cut": (b'{"a": 1}\n{"a": "b', 2, "broken JSON: Unterminated string starting at; fix or remove the line"),
    "two in a line": (b'{"a": 1} {"b": 2}\n', 1, "broken JSON: Extra data; fix or remove the line"),
    "list": (b'{"a": 1}\n[1]\n', 2, "expected a JSON object in braces, found list"),
    "number": (b"3\n", 1, "expected a JSON object in braces, found int"),
    "null": (b"null\n", 1, "expected a JSON object in braces, found NoneType"),
    "latin-1": (
        b'{"a": 1}\n{"a": 1}\n{"a": "\xe9"}\n{"a": 1}\n',
        3,
        "not UTF-8: invalid continuation byte; convert the file to UTF-8: iconv -f ENCODING -t UTF-8 rows.jsonl",
    ),
    "shift-jis": (
        b'{"a": 1}\n' * 5000 + '{"a": "壊血病"}\n'.encode("shift-jis"),
        5001,
        "not UTF-8: it looks like Shift_JIS; convert the file to UTF-8: iconv -f CP932 -t UTF-8 rows.jsonl",
    ),
    "euc-jp": (
        b'{"a": 1}\n' + '{"a": "壊血病"}\n'.encode("euc-jp"),
        2,
        "not UTF-8: it looks like EUC-JP; convert the file to UTF-8: iconv -f EUC-JP -t UTF-8 rows.jsonl",
    ),
    "utf-16": (
        '{"a": "壊血病"}\n'.encode("utf-16"),
        1,
        "not UTF-8: it looks like UTF-16; convert the file to UTF-8: iconv -f UTF-16 -t UTF-8 rows.jsonl",
    ),
    "a zero byte": (
        b'{"a": "a text of some length with a byte that no text has \0"}\n',
        1,
        "has a zero byte; remove it",
    ),
    "utf-16 without its mark": (
        '{"a": "scurvy"}\n'.encode("utf-16-le"),
        1,
        "not UTF-8: it looks like UTF-16; convert the file to UTF-8: iconv -f UTF-16 -t UTF-8 rows.jsonl",
    ),
    "key twice": (
        b'{"answer": ["a"]}\n{"answer": ["b"], "x": 1, "answer": ["a"]}\n',
        2,
        'key "answer" is given twice in one object; fix or remove the line',
    ),
    "key twice, once escaped, below a list": (
        rb'{"a": [{"key": 1, "x": {"key": 1}}, {"k": 1, "\u006b": "k"}]}',
        1,
        r'key "\u006b" is given twice in one object; fix or remove the line',
    ),
    "long number": (
        b'{"a": 1}\n{"a": ' + b"1" * 6000 + b"}\n",
        2,
        "a number of thousands of digits; fix or remove the line",
    ),
    "deep": (
        b'{"a": 1}\n{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        2,
        "broken JSON: nested too deeply; fix or remove the line",
    ),
    "half a character": (
        rb'{"a": "\uD83D"}',
        1,
        "\\ud83d is half a character; fix or remove the line",
    ),
}


@pytest.mark.parametrize("name", BROKEN_LINES)
def test_a_bad_line_is_named(tmp_path: Path, name: str) -> None:
    content, line, problem = BROKEN_LINES[name]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    assert message(lambda: list(read_jsonl(path))) == f"{path}:{line}: {problem}"


def test_good_lines_before_a_bad_one_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n \n{"b": "\\ud83d\\ude00"}\r\n\xff\n')
    rows = read_jsonl(path)
    assert next(rows) == (1, {"a": 1})
    assert next(rows) == (3, {"b": "😀"})
    assert ":4: not UTF-8" in message(lambda: next(rows))


@pytest.mark.parametrize("read", [lambda path: list(read_jsonl(path)), read_json], ids=["jsonl", "json"])
def test_a_missing_file_and_a_folder_are_named(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    assert message(lambda: read(tmp_path / "none")) == f"{tmp_path / 'none'}: no such file"
    assert message(lambda: read(tmp_path)).startswith(f"{tmp_path}: cannot be read: ")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{\n"a" 1\n}', ":2: broken JSON: "),
        (b"", ":1: broken JSON: Expecting value; fix or remove the line"),
        (b'{\n"a":\n"\xff"}', ":3: not UTF-8: invalid start byte; convert the file to UTF-8: iconv "),
        (b'[{"a": 1},\n{"a": 1,\n"a": "a"}]', ':3: key "a" is given twice in one object; fix or remove the line'),
        (b'{"a": "1",\n"b":\n' + b"1" * 6000 + b"}", ":3: a number of thousands of digits; fix or remove"),
        (b'{"a":\n"\\ud83d"}', ":2: \\ud83d is half a character; fix or remove the line"),
    ],
    ids=["colon", "empty", "bytes", "key twice", "long number", "half a character"],
)
def test_a_broken_json_file_is_named(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert message(lambda: read_json(path)).startswith(f"{path}{problem}")


@given(rows=st.lists(st.dictionaries(st.text(), JSON), max_size=4))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rows_come_back_as_they_were(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, rows)
    assert list(read_jsonl(path)) == list(enumerate(rows, 1))
    write_atomic(path, to_json(rows, indent=2))
    assert read_json(path) == rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "e3b0c44298fc1c14"),
        ("abc", "ba7816bf8f01cfea"),
        ("壊血病", "592daa4e11693fc1"),
    ],
)
def test_hashes(tmp_path: Path, text: str, expected: str) -> None:
    """The first two are those of FIPS 180-4; the third was made with sha256sum."""
    (tmp_path / "file").write_text(text, encoding="utf-8")
    assert hash_text(text) == expected
    assert hash_file(tmp_path / "file")[:16] == expected
    assert len(hash_file(tmp_path / "file")) == 64


def test_japanese_stays_readable_and_keys_in_order() -> None:
    assert to_json({"b": "壊血病", "a": [1.5, None]}) == '{"b": "壊血病", "a": [1.5, null]}'


def test_a_long_line_and_a_large_file_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmedllm.files.MOST_LINE", 1 << 20)
    monkeypatch.setattr("jmedllm.files.MOST_BYTES", 4 << 20)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": "' + "x" * (3 << 20) + '"}\n{"a": 3}\n', encoding="utf-8")
    rows = [row if isinstance(row, dict) else str(row) for _, row in try_jsonl(path)]
    assert rows == [{"a": 1}, f"{path}:2: a line of more than 1 MB; divide or remove it", {"a": 3}]
    path.write_bytes(bytes((4 << 20) + 1))
    with pytest.raises(InputError, match=r"rows.jsonl: has more than 4 MB; divide it$"):
        read_json(path)


def test_a_key_that_is_given_twice_is_found_in_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[" + '{"a": "b"},\n' * 100_000 + '{"a": 1, "a": 2}]', encoding="utf-8")
    with pytest.raises(InputError, match=r'a.json:100001: key "a" is given twice in one object'):
        read_json(path)
