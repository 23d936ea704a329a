"""The vLLM engine against a stand-in that records how it was called; vLLM itself is not installed here."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.models import Request, Writing
from jmedllm.models.encoding import label_tokens
from jmedllm.models.labels import UNLISTED
from jmedllm.models.loading import load_tokenizer
from jmedllm.models.vllm import VllmModel, open_vllm


@dataclass
class Output:
    text: str
    finish_reason: str = "stop"
    logprobs: Any = None


@dataclass
class Reply:
    outputs: list[Output]


@dataclass
class Logprob:
    logprob: float


@dataclass
class Engine:
    """Writes the same two lines for every prompt; the label "b" is likely, "a" less so, "c" not listed."""

    tokenizer: Any
    calls: list[dict[str, Any]] = field(default_factory=list)

    def generate(self, prompts: list[dict[str, Any]], sampling: dict[str, Any], **_: Any) -> list[Reply]:
        self.calls.append(sampling | {"prompts": len(prompts)})
        if "logprobs" in sampling:
            tokens = {label: label_tokens(self.tokenizer, label)[0] for label in "ab"}
            listed = {tokens["b"]: Logprob(-0.5), tokens["a"]: Logprob(-2.0), 1: Logprob(-4.0)}
            return [Reply([Output("b", logprobs=[listed])]) for _ in prompts]
        whole = "\nfirst line\nsecond line"
        if "stop" not in sampling:
            return [Reply([Output(whole, "length")]) for _ in prompts]
        blank = len(prompts[0]["prompt_token_ids"]) % 2 == 0
        return [Reply([Output("\n" if blank else "first line\n")]) for _ in prompts]


@pytest.fixture
def model(tiny_model: Path) -> VllmModel:
    tokenizer = load_tokenizer(tiny_model)
    return VllmModel("v", Engine(tokenizer), dict, tokenizer)


def test_all_prompts_go_in_one_call(model: VllmModel) -> None:
    requests = [Request(str(i), "Q" * 2, labels=("a", "b", "c"), write=True) for i in range(3)]
    found = dict(model.answer(requests, Writing(64)))
    assert [found[i].log_probs for i in range(3)] == [(-2.0, -0.5, UNLISTED)] * 3
    assert {found[i].completion.text for i in range(3)} == {"\nfirst line\nsecond line"}
    assert found[0].completion.truncated
    assert [call["prompts"] for call in model.engine.calls] == [3, 3, 3]
    assert all("prompt_logprobs" not in call and call["temperature"] == 0.0 for call in model.engine.calls)


def test_no_label_listed_is_no_answer(model: VllmModel) -> None:
    [(_, response)] = model.answer([Request("1", "Q", labels=("c", "d"))], Writing(1))
    assert response.log_probs is None


def test_a_first_line_that_is_enough_is_not_written_on(model: VllmModel) -> None:
    [(_, response)] = model.answer([Request("1", "Q" * 3, write=True)], Writing(64, lambda _: True))
    assert response.completion.text == "first line\n"
    assert [call["prompts"] for call in model.engine.calls] == [1]


def test_what_it_cannot_do_is_said(model: VllmModel, tiny_model: Path) -> None:
    with pytest.raises(InputError, match="no likelihood of whole choices"):
        list(model.answer([Request("1", "Q", choices=("a", "b"))], Writing(1)))
    with pytest.raises(InputError, match=r"needs vLLM; install it with: pip install 'jmedllm\[vllm\]'"):
        open_vllm(tiny_model, "bfloat16")
