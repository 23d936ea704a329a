"""Where thoughts begin and end: published markers, those of a template alone, and what a prompt leaves open."""

import pytest

from jmedllm.models.thoughts import PUBLISHED, UNKNOWN, borders, leaves_thought_open, thoughts_of_template

OPEN = {
    "Qwen3, DeepSeek-R1": "<|im_start|>assistant\n<think>\n",
    "Seed-OSS": "<seed:bos>assistant\n<seed:think>",
    "Gemma 4": "<|turn>model\n<|channel>thought\n",
    "Harmony": "<|start|>assistant<|channel|>analysis<|message|>",
    "Magistral": "[/INST][THINK]",
    "Cohere": "<|CHATBOT_TOKEN|><|START_THINKING|>",
    "Kimi": "<|im_assistant|>assistant<|im_middle|>◁think▷",
    "a marker nobody published": "<|im_start|>assistant\n<vendor_think>\n",
    "another": "<|assistant|><|begin_of_reasoning|>\n",
}
CLOSED = {
    "no thought": "<|im_start|>assistant\n",
    "an empty thought": "<|im_start|>assistant\n<think>\n\n</think>\n\n",
    "an empty thought of Gemma 4": "<|turn>model\n<|channel>thought\n<channel|>",
    "the final channel": "<|start|>assistant<|channel|>final<|message|>",
    "a system line about thoughts": "Think inside <think> and </think>, or only <think>.<|im_start|>assistant\n",
    "the end of one nobody published": "<|im_start|>assistant\n<vendor_think></vendor_think>\n",
    "raw text": "問題：診断はどれか。\n答え：",
}


@pytest.mark.parametrize("prompt", [pytest.param(text, id=name) for name, text in OPEN.items()])
def test_a_prompt_that_opens_a_thought(prompt: str) -> None:
    assert leaves_thought_open(prompt)


@pytest.mark.parametrize("prompt", [pytest.param(text, id=name) for name, text in CLOSED.items()])
def test_a_prompt_that_opens_none(prompt: str) -> None:
    assert not leaves_thought_open(prompt)


@pytest.mark.parametrize("thought", PUBLISHED, ids=lambda thought: thought.opening)
def test_every_published_marker_is_found(thought) -> None:
    found = list(borders(f"{thought.opening}\n答え：a{thought.closing}b"))
    assert [(each.kind, each.thought) for each in found] == [("opening", thought), ("closing", thought)]
    assert leaves_thought_open(f"x\n{thought.opening}\n") == (not thought.opening[0].isalpha())


def test_markers_of_a_template_are_its_pairs() -> None:
    template = (
        "{% if enable_thinking %}<|think|>{% endif %}<vendor_think></vendor_think><think></think>"
        "<|begin_cot|><|end_cot|><|ponder>{{ x }}<ponder|>[MY_THINK][/MY_THINK]"
    )
    pairs = {(each.opening, each.closing) for each in thoughts_of_template(template)}
    assert pairs == {
        ("<vendor_think>", "</vendor_think>"),
        ("<|begin_cot|>", "<|end_cot|>"),
        ("<|ponder>", "<ponder|>"),
        ("[MY_THINK]", "[/MY_THINK]"),
    }
    assert thoughts_of_template({"default": template, "tool_use": ""}) == thoughts_of_template(template)
    assert thoughts_of_template(None) == ()


@pytest.mark.parametrize("text", ["think", "<b>bold</b>", "x<y", "[1]", "a < thought", "<reason>熱</reason>", "[ ]"])
def test_prose_and_markup_are_no_markers(text: str) -> None:
    assert not UNKNOWN.search(text)
    assert not list(borders(text))
