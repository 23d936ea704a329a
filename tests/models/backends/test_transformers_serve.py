"""Backend openai with the server that transformers contains, which needs fastapi and uvicorn."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from jmedllm.api import open_model
from jmedllm.errors import InputError
from jmedllm.files import to_json
from jmedllm.models.backends.base import Decoding, GenerationConfig, InferenceModel, Request, ServerSettings
from jmedllm.models.backends.openai.server import connect
from jmedllm.models.chat import ChatTemplate, Message
from jmedllm.models.chat_format import with_thinking
from jmedllm.models.tokenizer.load import load_tokenizer

NEEDED = ("fastapi", "uvicorn")
TEMPLATE = Path(__file__).parents[2] / "templates" / "qwen3.5.jinja"
CHATS: list[list[Message]] = [[{"role": "user", "content": f"question {n} 脚気はどれか"}] for n in range(4)]

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in NEEDED), reason="needs pip install fastapi uvicorn"
    ),
]


@pytest.fixture(scope="module")
def folder(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose replies differ, with a template that opens a thought."""
    import torch
    from safetensors.torch import load_file, save_file

    found = copytree(tiny_model, tmp_path_factory.mktemp("served") / "model")
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: tensor if "norm" in name else 0.4 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in load_file(found / "model.safetensors").items()
    }
    save_file(weights, found / "model.safetensors", metadata={"format": "pt"})
    tokenizer = load_tokenizer(found)
    tokenizer.chat_template = TEMPLATE.read_text(encoding="utf-8")
    tokenizer.save_pretrained(found)
    return found


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", "float32"]
    process = subprocess.Popen(command, env=os.environ | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""})
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


def replies(model: InferenceModel, prompts: Sequence[str], config: GenerationConfig, seeds: Sequence[int]) -> Any:
    """Return the completions of prompts with these seeds."""
    each = zip(prompts, seeds, strict=True)
    asked = [Request(str(n), prompt, generate=True, seed=seed) for n, (prompt, seed) in enumerate(each)]
    return [response.completion for _, response in sorted(model.answer(asked, config))]


def served(url: str, folder: Path, **settings: Any) -> InferenceModel:
    return connect(url, str(folder), chat=True, concurrency=2, settings=ServerSettings(**settings))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JMEDLLM_API_KEY", "any")


@pytest.mark.parametrize("thinking", ["on", "off"])
def test_greedy_replies_are_those_of_the_model_here(url: str, folder: Path, thinking: Any) -> None:
    template = with_thinking(ChatTemplate(load_tokenizer(folder)), thinking)
    local = open_model(folder, precision="float32", device="cpu").model
    config = GenerationConfig(12)
    here = replies(local, [template.prompt(chat) for chat in CHATS], config, range(4))
    there = replies(served(url, folder, thinking=thinking), list(map(to_json, CHATS)), config, range(4))
    # The server finds the thought by the template and returns it in a field of its own.
    found = [each.reasoning if thinking == "on" else each.text for each in there]
    assert found == [each.plain or each.text for each in here]
    others = [each.text if thinking == "on" else each.reasoning for each in there]
    assert others == ["" if thinking == "on" else None] * 4
    assert [each.new_tokens for each in there] == [12] * 4 and all(each.truncated for each in there)


def test_sampled_replies_follow_their_seed(url: str, folder: Path) -> None:
    config = GenerationConfig(12, decoding=Decoding(0.9, 0.95, 20, 0.0, 1.1))
    model = connect(url, str(folder), chat=True, concurrency=1, settings=ServerSettings(thinking="off"))
    first, second, third = replies(model, [to_json(CHATS[0])] * 3, config, (1, 2, 1))
    assert first.text == third.text != second.text


def test_what_the_server_cannot_do_is_one_line(url: str, folder: Path) -> None:
    model = connect(url, str(folder), chat=True)
    prompt = to_json(CHATS[0])
    with pytest.raises(InputError, match="returns no probabilities; use another scorer"):
        list(model.answer([Request("1", prompt, labels=("a", "b"))], GenerationConfig(1)))
    with pytest.raises(InputError, match="transformers serve cannot constrain a reply"):
        list(model.answer([Request("1", prompt, generate=True, allowed=("a",))], GenerationConfig(4)))
    with pytest.raises(InputError, match="transformers serve takes no thinking budget"):
        list(model.answer([Request("1", prompt, generate=True)], GenerationConfig(4, thinking_budget=2)))
    with pytest.raises(InputError, match=r"refuses the field min_tokens \(422: "):
        replies(served(url, folder, extra_body={"min_tokens": 2}), [prompt], GenerationConfig(4), (0,))
