"""Replies of servers: log-probabilities, texts and thoughts in every form."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from jmedllm.models.backends.openai.replies import (
    choice_of,
    finish_reason_of,
    reasoning_of,
    reasoning_tokens_of,
    text_of,
    top_tokens,
)

LISTED = [{"token": "c", "logprob": -0.5}, {"token": " a", "logprob": -2.0}]
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "OpenAI text": ({"logprobs": {"top_logprobs": [{"c": -0.5, " a": -2.0}]}}, {}),
    "OpenAI chat": ({"logprobs": {"content": [{"token": "c", "logprob": -0.5, "top_logprobs": LISTED}]}}, {}),
    "llama.cpp": ({}, {"completion_probabilities": [{"token": "c", "top_logprobs": LISTED}]}),
    "signs for the space": ({"logprobs": {"top_logprobs": [{"c": -0.5, "▁a": -2.0}]}}, {}),
    "llama.cpp, after sampling": (
        {},
        {"completion_probabilities": [{"top_probs": [
            {"token": "c", "prob": math.exp(-0.5)}, {"token": " a", "prob": math.exp(-2)},
        ]}]},
    ),
    "llama.cpp of 2024": (
        {},
        {"completion_probabilities": [{"content": "c", "probs": [
            {"tok_str": "c", "prob": math.exp(-0.5)}, {"tok_str": " a", "prob": math.exp(-2)},
        ]}]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_log_probabilities_are_read_in_every_shape(shape: str) -> None:
    choice, reply = SHAPES[shape]
    assert dict(top_tokens(choice, reply)) == pytest.approx({"c": -0.5, " a": -2.0})


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "c"}, ("c", None)),
        ({"content": None}, ("", None)),
        ({"content": None, "refusal": "I cannot."}, ("I cannot.", None)),
        ({"content": ["c"], "reasoning": [{"type": "text", "text": "hm"}]}, ("c", "hm")),
        ({"content": "c", "reasoning_details": [{"type": "reasoning.text", "text": "hm"}]}, ("c", "hm")),
        ({"content": "c", "reasoning_content": "hm"}, ("c", "hm")),
        ({"content": [{"type": "text", "text": "c"}]}, ("c", None)),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "A:"},
                    {"type": "text", "text": "c"},
                ]
            },
            ("A:c", "hm"),
        ),
        (
            {
                "content": [
                    {"type": "reasoning", "text": "hm"},
                    {"type": "output_text", "text": "c"},
                    {"type": "x"},
                ]
            },
            ("c", "hm"),
        ),
    ],
    ids=[
        "text",
        "null",
        "a refusal",
        "parts",
        "OpenRouter",
        "a thought",
        "parts",
        "a thought among parts",
        "parts of other names",
    ],
)
def test_text_and_thought_of_a_message(message: dict[str, Any], expected: tuple[str, str | None]) -> None:
    assert (text_of(message), reasoning_of(message)) == expected


@pytest.mark.parametrize("choice", [{}, {"logprobs": None}, {"logprobs": {"top_logprobs": None}}, {"logprobs": {}}])
def test_missing_log_probabilities_are_empty(choice: dict[str, Any]) -> None:
    assert top_tokens(choice, {}) == []


@pytest.mark.parametrize(
    "reply", ["data: [DONE]", None, SimpleNamespace(choices=[]), SimpleNamespace(choices=[SimpleNamespace(text="b")])]
)
def test_a_reply_without_a_message_is_shown(reply: Any) -> None:
    with pytest.raises(ValueError, match=r"it has no message: .*(DONE|None|choices)"):
        choice_of(reply, chat=True)


def test_an_object_is_no_text() -> None:
    with pytest.raises(ValueError, match="an object instead of a text"):
        text_of({"content": {"text": "b"}})


@pytest.mark.parametrize(("said", "tokens", "reason"), [(None, 64, "length"), (None, 63, None), ("stop", 64, "stop")])
def test_a_reply_as_long_as_the_limit_was_cut_off(said: str | None, tokens: int, reason: str | None) -> None:
    assert finish_reason_of(SimpleNamespace(finish_reason=said), tokens, 64) == reason


def test_tokens_of_a_thought_in_usage_itself() -> None:
    assert reasoning_tokens_of(SimpleNamespace(usage=SimpleNamespace(reasoning_tokens=5))) == 5
