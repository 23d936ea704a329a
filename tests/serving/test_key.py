"""The key, the number of threads, and the metadata of a file."""

import socket
from pathlib import Path

import pytest

from jmedllm.deploy.gguf.header import read_header
from jmedllm.errors import InputError
from jmedllm.serving.backends.gguf_text import bytes_of_tokens, spellings, text_format
from jmedllm.serving.key import cookie_of, matches, read_or_create_key
from jmedllm.serving.run import listen
from jmedllm.serving.threads import usable_cores


def test_a_key_is_created_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "config/key"
    key = read_or_create_key(file)
    assert len(key) >= 43 and file.stat().st_mode & 0o777 == 0o600
    assert read_or_create_key(file) == key != read_or_create_key(tmp_path / "other")
    assert matches(key, key) and not matches(key[:-1], key) and key not in cookie_of(key)


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [
        ("k" * 43, 0o640, "other users can read this key; delete it, or run: chmod 600"),
        ("", 0o600, "at least 16 ASCII characters"),
        ("short", 0o600, "at least 16 ASCII characters"),
        ("a key with spaces in it", 0o600, "without spaces"),
        ("鍵" * 20, 0o600, "has no key that can be read"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused(content: str, mode: int, message: str, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(content, encoding="utf-8")
    file.chmod(mode)
    with pytest.raises(InputError, match=message):
        read_or_create_key(file)


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(InputError, match="in use; give another --port"):
            listen(other.getsockname()[1])


@pytest.mark.parametrize(
    ("cores", "quota", "expected"),
    [
        ({0: "0", 1: "0"}, None, 1),  # two threads of one core
        ({0: "0", 1: "1"}, "max 100000", 2),
        ({0: "0", 1: "1"}, "150000 100000", 1),  # a container with 1.5 CPUs
        ({0: "0", 1: "1"}, "50000 100000", 1),
        ({}, "broken", 2),  # no description of the CPUs
    ],
)
def test_threads_are_cores(
    cores: dict[int, str], quota: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    for number, core in cores.items():
        topology = tmp_path / f"cpu{number}/topology"
        topology.mkdir(parents=True)
        (topology / "core_id").write_text(f"{core}\n")
        (topology / "physical_package_id").write_text("0\n")
    limit = tmp_path / "cpu.max"
    if quota is not None:
        limit.write_text(quota)
    assert usable_cores(tmp_path, limit) == expected


def test_metadata_are_those_of_the_gguf_package(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_bool("a.bool", True)
    writer.add_array("a.list", [1, 2, 3])
    writer.add_array("a.texts", ["高", "", "b"])
    writer.add_float32("a.float", 0.5)
    writer.add_int64("a.long", -(2**40))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = read_header(tmp_path / "a.gguf")
    assert found == {
        "general.architecture": "llama", "a.bool": True, "a.list": [1, 2, 3], "a.texts": ["高", "", "b"],
        "a.float": 0.5, "a.long": -(2**40),
    }  # fmt: skip
    whole = (tmp_path / "a.gguf").read_bytes()
    for length in (0, 3, 4, 12, 30, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(InputError, match="not a GGUF file, or damaged"):
            read_header(tmp_path / "cut.gguf")


METADATA = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.tokens": ["<|end|>", "Ġa", "ã", "ģ", "ãģ", "Ĥ", "医"],
    "tokenizer.ggml.token_type": [3, 1, 1, 1, 1, 1, 4],
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.ggml.eot_token_id": 0,
}


def test_tokens_and_their_bytes() -> None:
    spelled = bytes_of_tokens(METADATA)
    assert spelled == [b"<|end|>", b" a", b"\xe3", b"\x81", b"\xe3\x81", b"\x82", "医".encode()]
    ids = {raw: number for number, raw in enumerate(spelled)}
    assert list(spellings(b"\xe3\x81", 2, ids)) == [(2, 3)]
    assert list(spellings(b"\xe3\x81", 1, ids)) == [(4,)]
    assert list(spellings("あ".encode(), 2, ids)) == [(4, 5)]
    assert list(spellings(b"zz", 2, ids)) == []
    pieces = METADATA | {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": ["▁a", "<0xE3>", "医"]}
    assert bytes_of_tokens(pieces | {"tokenizer.ggml.token_type": [1, 6, 1]}) == [b" a", b"\xe3", "医".encode()]
    recorded = text_format(METADATA | {"jmedllm.special_tokens": '{"eos_token": "<|eot|>"}'})
    assert recorded.special == {"eos_token": "<|eot|>"}
    found = text_format(METADATA)
    assert (found.ends, found.special, found.control) == ((0,), {"eos_token": "<|end|>"}, {"<|end|>"})
