"""Backend vllm with a stand-in for vLLM that records how it was called."""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.models.backends.base import Decoding, GenerationConfig, Request
from jmedllm.models.backends.completion import Ends, ends_of
from jmedllm.models.backends.top_logprobs import UNLISTED
from jmedllm.models.backends.vllm.model import VllmModel, load_model
from jmedllm.models.tokenizer.load import load_tokenizer


@dataclass
class Output:
    token_ids: list[int]
    finish_reason: str = "stop"
    logprobs: Any = None


@dataclass
class Reply:
    outputs: list[Output]


@dataclass
class Logprob:
    logprob: float


@dataclass
class FakeLLM:
    """Writes the same two lines for every prompt; the label "b" is likely, "a" less so, "c" not listed."""

    tokenizer: Any
    calls: list[dict[str, Any]] = field(default_factory=list)
    script: str = ""

    def scripted(self, prompt: list[int], limit: int) -> Reply:
        """Continue the script; behind a thought that somebody else has closed, answer."""
        whole, given = self.written(self.script), self.tokenizer.decode(prompt)
        done = next((n for n in range(len(whole), 0, -1) if prompt[-n:] == whole[:n]), 0)
        rest = whole[done:] if done or "</think>" not in given else self.written("b")
        return Reply([Output(rest[:limit], "length" if len(rest) > limit else "stop")])

    def generate(self, prompts: list[dict[str, Any]], sampling: Any, **_: Any) -> list[Reply]:
        if isinstance(sampling, list):  # one for each prompt
            assert len(sampling) == len(prompts)
            return [self.generate([prompt], own)[0] for prompt, own in zip(prompts, sampling, strict=True)]
        self.calls.append(sampling | {"prompts": len(prompts)})
        if self.script:
            return [self.scripted(prompt["prompt_token_ids"], sampling["max_tokens"]) for prompt in prompts]
        if "logprobs" in sampling:
            a, b = (self.written(label)[0] for label in "ab")
            listed = {b: Logprob(-0.5), a: Logprob(-2.0), 1: Logprob(-4.0)}
            return [Reply([Output([b], logprobs=[listed])]) for _ in prompts]
        if "stop" not in sampling:
            whole = self.written("\nfirst line\nsecond line")
            return [Reply([Output(whole, "length")]) for _ in prompts]
        blank = len(prompts[0]["prompt_token_ids"]) % 2 == 0
        return [Reply([Output(self.written("\n" if blank else "first line\n"))]) for _ in prompts]

    def written(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


@pytest.fixture
def model(tiny_model: Path) -> VllmModel:
    tokenizer = load_tokenizer(tiny_model)
    return VllmModel("v", FakeLLM(tokenizer), dict, dict, tokenizer, context=128, ends=ends_of(tokenizer))


def requests_of(n: int) -> list[Request]:
    return [Request(str(i), "Q" * 2, labels=("a", "b", "c"), generate=True) for i in range(n)]


def test_all_prompts_go_in_one_call_for_labels_and_one_for_texts(model: VllmModel) -> None:
    found = dict(model.answer(requests_of(3), GenerationConfig(64)))
    assert [found[i].log_probs for i in range(3)] == [(-2.0, -0.5, UNLISTED)] * 3
    assert {found[i].completion.text for i in range(3)} == {"\nfirst line\nsecond line"}
    assert found[0].completion.truncated
    labels, texts = model.llm.calls
    assert labels == {"prompts": 3, "temperature": 0.0, "max_tokens": 1, "logprobs": 20}
    assert texts == {"prompts": 3, "temperature": 0.0, "max_tokens": 64, "stop_token_ids": [0]}


def test_sampling_settings_and_seeds_are_those_of_each_request(model: VllmModel) -> None:
    decoding = Decoding(0.6, 0.95, 20, 0.05, 1.1)
    asked = [Request(str(seed), "QQ", generate=True, seed=seed) for seed in (7, 8)]
    assert len(list(model.answer(asked, GenerationConfig(64, decoding=decoding)))) == 2
    values = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.05, "repetition_penalty": 1.1}
    common = {"prompts": 1, "max_tokens": 64, "stop_token_ids": [0], **values}
    assert model.llm.calls == [common | {"seed": 7}, common | {"seed": 8}]


def test_a_constraint_is_passed_on_and_refused_for_an_open_thought(model: VllmModel) -> None:
    list(model.answer([Request("1", "QQ", generate=True, allowed=("a", "b"))], GenerationConfig(64)))
    assert model.llm.calls[0]["structured_outputs"] == {"choice": ["a", "b"]}
    with pytest.raises(InputError, match="backend vllm constrains the thought, too; give --thinking off"):
        list(model.answer([Request("1", "Q<think>", generate=True, allowed=("a",))], GenerationConfig(8)))


@pytest.mark.parametrize(
    ("script", "text", "calls", "forced"),
    [
        ("<think>aa</think>b", "<think>aa</think>b", 1, False),  # ends before the budget
        ("<think>aa</think>" + "b" * 20, "<think>aa</think>" + "b" * 20, 2, False),  # a long answer
        ("<think>" + "a" * 60, "<think>" + "a" * 23 + "</think>b", 2, True),
        ("b" * 60, "b" * 60, 2, False),  # no thought
    ],
)
def test_a_thought_is_closed_at_the_budget(model: VllmModel, script: str, text: str, calls: int, forced: bool) -> None:
    model.llm.script = script
    budget = len(model.llm.written("<think>" + "a" * 23))
    config = GenerationConfig(90, thinking_budget=budget, thought_closing="</think>")
    [(_, response)] = model.answer([Request("1", "Q", generate=True)], config)
    completion = response.completion
    assert (completion.text, completion.forced, len(model.llm.calls)) == (text, forced, calls)
    assert completion.new_tokens == (budget + 1 if forced else len(model.llm.written(text)))


def test_responses_of_a_chunk_are_yielded_before_the_next(model: VllmModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jmedllm.models.backends.vllm.model.CHUNK", 2)
    answers = model.answer(requests_of(5), GenerationConfig(64))
    assert [next(answers)[0] for _ in range(2)] == [0, 1]
    assert [call["prompts"] for call in model.llm.calls] == [2, 2]
    assert [index for index, _ in answers] == [2, 3, 4]
    assert [call["prompts"] for call in model.llm.calls] == [2, 2, 2, 2, 1, 1]


@pytest.mark.parametrize(
    ("too_long", "needed"),
    [
        (Request("116A1", "Q" * 8, generate=True), "prompt and 121 new tokens need 129 tokens"),
        (Request("116A1", "Q" * 128, labels=("a",)), "the prompt and a label need 129 tokens"),
    ],
)
def test_a_prompt_that_does_not_fit_is_named_before_any_work(model: VllmModel, too_long: Request, needed: str) -> None:
    with pytest.raises(InputError, match=f"question 116A1: {needed}, the context of v is 128; use fewer shots"):
        list(model.answer([Request("1", "Q", generate=True), too_long], GenerationConfig(121)))
    assert not model.llm.calls


def test_a_prompt_that_just_fits_is_asked(model: VllmModel) -> None:
    assert len(list(model.answer([Request("1", "Q" * 8, generate=True)], GenerationConfig(120)))) == 1
    assert len(list(model.answer([Request("1", "Q" * 127, labels=("a",))], GenerationConfig(1)))) == 1


def test_the_end_of_a_turn_is_removed_by_its_id(model: VllmModel) -> None:
    whole = model.llm.written("\nfirst line\nsecond line")
    ended = replace(model, ends=Ends(frozenset({whole[-1]})))
    [(_, response)] = ended.answer([Request("1", "Q", generate=True)], GenerationConfig(64))
    assert response.completion.text == model.tokenizer.decode(whole[: whole.index(whole[-1])])
    assert model.llm.calls[-1]["stop_token_ids"] == [whole[-1]]


def test_a_label_of_several_tokens_is_refused(model: VllmModel) -> None:
    with pytest.raises(InputError, match="question 1: a label is not one token after this prompt"):
        list(model.answer([Request("1", "Q\n", labels=("膵",))], GenerationConfig(1)))


def test_no_label_listed_is_no_answer(model: VllmModel) -> None:
    [(_, response)] = model.answer([Request("1", "Q", labels=("c", "d"))], GenerationConfig(1))
    assert response.log_probs is None


def test_a_first_line_that_is_enough_is_not_continued(model: VllmModel) -> None:
    [(_, response)] = model.answer([Request("1", "Q" * 3, generate=True)], GenerationConfig(64, lambda _: True))
    assert response.completion.text == "first line\n"
    assert [call["prompts"] for call in model.llm.calls] == [1]


def test_a_first_line_that_is_not_enough_is_generated_again_in_full(model: VllmModel) -> None:
    [(_, response)] = model.answer([Request("1", "Q" * 3, generate=True)], GenerationConfig(64, lambda _: False))
    assert response.completion.text == "\nfirst line\nsecond line"
    assert [call.get("stop") for call in model.llm.calls] == [["\n"], None]


def test_the_context_is_that_of_the_loaded_model(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(model_config=SimpleNamespace(max_model_len=77))
    vllm = SimpleNamespace(LLM=lambda **_: SimpleNamespace(llm_engine=config), SamplingParams=dict)
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, "vllm.lora", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "vllm.lora.request", SimpleNamespace(LoRARequest=tuple))
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", SimpleNamespace(StructuredOutputsParams=dict))
    model = load_model(tiny_model, "bfloat16")
    assert (model.context, model.name, model.adapter) == (77, tiny_model.name, None)


def test_unsupported_requests_are_refused(model: VllmModel, tiny_model: Path) -> None:
    with pytest.raises(InputError, match="no log-probabilities of whole choices"):
        list(model.answer([Request("1", "Q", choices=("a", "b"))], GenerationConfig(1)))
    with pytest.raises(InputError, match=r"needs vllm; install it with: pip install 'vllm>="):
        load_model(tiny_model, "bfloat16")
