"""Replies of models that think: the thought is never read as the answer, however it was opened, marked or cut."""

from typing import Any

import pytest

from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.reading import read_answer
from jmedllm.models.thoughts import PUBLISHED, Thought, thoughts_of_template

CHOICES = ("胃癌", "大腸癌", "膵癌", "肝癌", "胆嚢癌")
ITEM = Question("test", "1", "ja", "診断はどれか。", CHOICES, frozenset({1}), select=1)
HARMONY = "<|channel|>analysis<|message|>The answer is A.<|end|><|start|>assistant"


def outcome(reply: str, **how: Any) -> str:
    answer = read_answer(ITEM, reply, **how)
    return "".join(map(label, sorted(answer.chosen))) or answer.how


@pytest.mark.parametrize("thought", [each for each in PUBLISHED if not each.nested], ids=lambda each: each.opening)
def test_every_published_thought(thought: Thought) -> None:
    inside = f"{thought.opening}\n黄疸がある。答え：a"
    assert outcome(f"{inside}{thought.closing}b") == "b"
    assert outcome(f"{thought.opening}\n{thought.closing}\n**b**") == "b"
    assert outcome(inside) == outcome(inside, truncated=True) == "truncated"
    assert outcome(f"答え：c\n黄疸がある{thought.closing}b", thought_open=True) == "b"
    assert outcome(f"答え：a{thought.closing}The correct option is B.") == "b"


REPLIES = [
    ("b", {}, "b"),
    ("b", {"thought_open": True}, "truncated"),
    ("答えはeだろう。次に選択肢を", {"thought_open": True, "truncated": True}, "truncated"),
    ("<think>\nまた答えはa</think>\nb", {"thought_open": True}, "b"),
    ("The tag <think> opens it: a</think>b", {"thought_open": True}, "b"),
    ("<thinking>x<reflection>No: a</reflection>The answer is A.</thinking>b", {}, "b"),
    ("<thinking>x<reflection>No: a</reflection>The answer is A.", {}, "truncated"),
    ("x<reflection>No: a</reflection>The answer is A.", {"thought_open": True}, "truncated"),
    ("<think>答え：a</think>", {}, "empty"),
    ("答え：b\n<think>aかも</think>", {}, "b"),
    ("答え：b\n<think>aかも", {}, "b"),
    ("<think>a</think>b<think>c</think>d", {}, "d"),
    ("<think>a</think>b</think>", {}, "b"),
    ("<think>答え：a</thinking>b", {}, "b"),
    (HARMONY + "<|channel|>final<|message|>b<|return|>", {}, "b"),
    (HARMONY + "<|channel|>commentary<|message|>It is A.<|channel|>final<|message|>b", {}, "b"),
    (HARMONY + "<|channel|>final <|constrain|>json<|message|>{\"answer\": \"b\"}", {}, "b"),
    (HARMONY + "<|channel|>fin", {"truncated": True}, "truncated"),
    (HARMONY + "<|channel|>critique<|message|>b", {}, "truncated"),
    ("<|channel|>critique<|message|>答え：a<|end|>", {}, "unknown marker"),
    ("<|channel>critique\n答え：a<channel|>b", {}, "b"),
    ("<|channel>critique\n答え：a", {}, "unknown marker"),
    ("<|channel>thou", {"truncated": True}, "truncated"),
    ("<vendor_think>答え：a</vendor_think>b", {}, "unknown marker"),
    ("<vendor_think>答え：a</vendor_think>b", {"truncated": True}, "truncated"),
    ("<|reasoning_start|>答え：a<|reasoning_end|>b", {}, "unknown marker"),
    ("<unused12>答え：a", {}, "unknown marker"),
    ("[REASONING]答え：a[/REASONING]b", {}, "unknown marker"),
    ("＜think＞答え：a＜/think＞b", {}, "b"),
    ("<思考>答え：a</思考><回答>b</回答>", {}, "b"),
    ("<思考>答え：a。次に", {}, "truncated"),
    ('<thinking effort="high">答え：a</thinking>b', {}, "b"),
    ("<think >答え：a</think >b", {}, "unknown marker"),
    ("<｜think｜>答え：a<｜/think｜>b", {}, "unknown marker"),
    ("[thinking]答え：a[/thinking]b", {}, "unknown marker"),
    ("&lt;think&gt;答え：a&lt;/think&gt;b", {}, "unknown marker"),
    ("血圧 < 90 かつ脈拍 > 100。答え：b", {}, "b"),
    ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>", {}, "b"),
    ("<|open|>think<|sep|>a<|close|>think<|sep|><|open|>response<|sep|>b<|close|>response<|sep|>", {}, "b"),
    ("<|channel>thought\nThe answer is A.\n<channel|>The correct option is B.<turn|>", {}, "b"),
    # Special tokens were dropped in decoding: the words of the markers are left.
    ("thought\n黄疸がある。答え：a\nb", {}, "b"),
    ("thought\nb", {}, "b"),
    ("thought\n黄疸がある。答え：ab", {}, "unknown marker"),
    ("thought\n黄疸がある。\n答えはaか", {}, "unknown marker"),
    ("thought\n黄疸がある。\nb", {"truncated": True}, "truncated"),
    ("analysisThe answer is A.assistantfinalb", {}, "b"),
    ("analysisThe answer is A.", {}, "truncated"),
    ("analysisまず整理する。答え：aassistantanalysisやはりc。assistantfinal答え：b", {}, "b"),
    ("analysisまず整理する。答え：a", {}, "truncated"),
    ("整理する。答え：a。assistantfinal答え：b", {"thought_open": True}, "b"),
    ("整理する。答え：a。assistantfinal答え：b", {"thought_open": None}, "b"),
    ('analysisIt is A.assistantfinal json{"answer": "b"}', {}, "b"),
    ("analysis: the answer is B.", {}, "b"),
    ("final=b", {}, "b"),
    ("final: b", {}, "b"),
    ("finalThe answer is B.", {}, "b"),
    ("final大腸癌", {}, "b"),
    ("整理する。答えはa。</thi", {"thought_open": None}, "truncated"),
    # A server that shows no template: what was cut off may all be thought, however it begins.
    ("まず整理する。答えはeだろう。次に", {"thought_open": None, "truncated": True}, "truncated"),
    ("Okay, so the question. The answer is A. Let me", {"thought_open": None, "truncated": True}, "truncated"),
    ("The answer is B. Jaundice is", {"thought_open": None, "truncated": True}, "truncated"),
    ("答えはbです。黄疸が", {"thought_open": None, "truncated": True}, "truncated"),
    ("b\n\n黄疸が", {"thought_open": None, "truncated": True}, "truncated"),
    ("整理する。答えはaだろう。</think>答えはb", {"thought_open": None, "truncated": True}, "b"),
    ("まず整理する。答えはbである。", {"thought_open": None}, "b"),
]  # fmt: skip


@pytest.mark.parametrize(("reply", "how", "expected"), REPLIES)
def test_a_reply(reply: str, how: dict[str, Any], expected: str) -> None:
    assert outcome(reply, **how) == expected


def test_markers_of_the_model_s_own_template() -> None:
    thoughts = thoughts_of_template("<vendor_think>{{ x }}</vendor_think>")
    assert outcome("<vendor_think>答え：a</vendor_think>b", thoughts=thoughts) == "b"
    assert outcome("答え：a</vendor_think>b", thoughts=thoughts, thought_open=True) == "b"
