"""Thoughts in training data: where they may be, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks.custom import ReadOptions
from jmedllm.evaluation.prompts.render import Instruction
from jmedllm.models.thoughts import PUBLISHED
from jmedllm.training.instructions import Conversation, read_instruction_file, read_instructions
from jmedllm.training.thoughts import split_thought

USER = {"role": "user", "content": "ビタミンCの欠乏は?"}
HARMONY = "<|channel|>analysis<|message|>歯肉。<|end|><|start|>assistant<|channel|>final<|message|>壊血病。<|return|>"
# content and other keys of a message of the assistant: its thought and its answer
THOUGHTS: dict[str, tuple[dict[str, Any], tuple[str | None, str]]] = {
    "reasoning_content": ({"content": "壊血病。", "reasoning_content": "歯肉。\n"}, ("歯肉。", "壊血病。")),
    "reasoning": ({"content": "壊血病。", "reasoning": "歯肉。"}, ("歯肉。", "壊血病。")),
    "thinking": ({"content": "壊血病。", "thinking": "歯肉。", "reasoning": None}, ("歯肉。", "壊血病。")),
    "null and empty": ({"content": "壊血病。", "thinking": None, "reasoning_content": " "}, (None, "壊血病。")),
    "the same twice": ({"content": "<think>歯肉。</think>壊血病。", "reasoning": "歯肉。"}, ("歯肉。", "壊血病。")),
    "tags": ({"content": "<think>\n歯肉。\n</think>\n\n壊血病。"}, ("歯肉。", "壊血病。")),
    "an empty thought": ({"content": "<think>\n\n</think>\n\n壊血病。"}, (None, "壊血病。")),
    "R1 data without the opening": ({"content": "歯肉。\n</think>\n\n壊血病。"}, ("歯肉。", "壊血病。")),
    "Mistral": ({"content": "[THINK]歯肉。[/THINK]壊血病。"}, ("歯肉。", "壊血病。")),
    "Seed-OSS with a nested marker": (
        {"content": "<seed:think>歯肉。<seed:cot_budget_reflect>残り</seed:cot_budget_reflect></seed:think>壊血病。"},
        ("歯肉。<seed:cot_budget_reflect>残り</seed:cot_budget_reflect>", "壊血病。"),
    ),
    "Gemma 4": ({"content": "<|channel>thought\n歯肉。\n<channel|>壊血病。"}, ("歯肉。", "壊血病。")),
    "gpt-oss": ({"content": HARMONY}, ("歯肉。", "壊血病。")),
    "gpt-oss without a thought": ({"content": "<|channel|>final<|message|>壊血病。<|return|>"}, (None, "壊血病。")),
    "Granite 3.2": (
        {"content": "Here is my thought process: 歯肉。\nHere is my response: 壊血病。"},
        ("歯肉。", "壊血病。"),
    ),
    "words that are no marker here": (
        {"content": "Here is my response: 壊血病。"}, (None, "Here is my response: 壊血病。")),
    "a tag in the answer": ({"content": "HTMLの<think>タグ"}, (None, "HTMLの<think>タグ")),
}  # fmt: skip


def read(path: Path, *messages: dict[str, Any]) -> Conversation:
    path.write_text(json.dumps({"messages": messages}, ensure_ascii=False) + "\n", encoding="utf-8")
    [item] = read_instructions(path)
    assert isinstance(item, Conversation)
    return item


@pytest.mark.parametrize("case", THOUGHTS)
def test_where_a_thought_may_be(tmp_path: Path, case: str) -> None:
    message, (thought, answer) = THOUGHTS[case]
    found = read(tmp_path / "talk.jsonl", USER, {"role": "assistant", **message})
    expected = {"role": "assistant", "content": answer} | ({"reasoning_content": thought} if thought else {})
    assert found.messages == (USER, expected)
    assert found.has_thoughts == (thought is not None)
    assert found.text == "\n".join([USER["content"], *filter(None, [thought]), answer])


def test_every_published_marker_is_split_off() -> None:
    for each in PUBLISHED:
        text = f"{each.opening}\n歯肉。\n{each.closing}\n壊血病。"
        assert split_thought(text) == (("", text) if each.nested else ("歯肉。", "壊血病。"))


# further keys of a message of the assistant, and the error
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"reasoning": "a", "thinking": "b"}, "two different thoughts, in thinking and reasoning; keep one"),
    (
        {"content": "<think>a</think>c", "reasoning_content": "b"},
        "two different thoughts, in reasoning_content and the content; keep one",
    ),
    ({"content": "<think>歯肉"}, "the thought '<think>' is not closed; complete it"),
    ({"content": "<think>a</think>\n<think>b</think>c"}, "the content has two thoughts; join them"),
    ({"content": "<think>a</think>\n"}, "there is a thought, but no answer after it; complete it"),
    ({"thinking": True}, "thinking must be a text or left out"),
]


@pytest.mark.parametrize(("keys", "printed"), WRONG)
def test_a_wrong_thought_is_named(tmp_path: Path, keys: dict[str, Any], printed: str) -> None:
    path = tmp_path / "talk.jsonl"
    with pytest.raises(InputError) as error:
        read(path, USER, {"role": "assistant", "content": "c"} | keys)
    assert str(error.value) == f"{path}:1: message 2: {printed}"


@pytest.mark.parametrize(
    ("message", "key"),
    [
        ({"role": "user", "content": "何?", "reasoning_content": "a"}, "reasoning_content"),
        ({"role": "system", "content": "短く。", "thinking": "a"}, "thinking"),
        ({"role": "user", "content": "<think>a</think>何?"}, "in its content"),
    ],
)
def test_only_the_assistant_thinks(tmp_path: Path, message: dict[str, Any], key: str) -> None:
    path = tmp_path / "talk.jsonl"
    with pytest.raises(InputError) as error:
        read(path, message, USER, {"role": "assistant", "content": "c"})
    why = f"a thought ({key}) in a message of role {message['role']}; only the assistant thinks: remove it"
    assert str(error.value) == f"{path}:1: message 1: {why}"


def test_a_user_may_ask_for_markers(tmp_path: Path) -> None:
    for text in ("<think></think>の形で答えよ。", "<think>タグを使え。", "考えは <think>a</think> に書け。"):
        asked = {"role": "user", "content": text}
        assert read(tmp_path / "t.jsonl", asked, {"role": "assistant", "content": "c"}).messages[0] == asked


def read_one(path: Path, row: dict[str, Any], **columns: str) -> Instruction:
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    found = read_instruction_file(path, ReadOptions(tuple(columns.items())))
    [item] = found.items
    assert isinstance(item, Instruction) and found.notes == ()
    return item


def test_an_instruction_may_have_a_thought_apart(tmp_path: Path) -> None:
    path = tmp_path / "cot.jsonl"
    own = {"instruction": "何?", "output": "壊血病。", "reasoning": "歯肉。\n"}
    assert read_one(path, own) == Instruction(f"{path}:1", "何?", "", "壊血病。", "歯肉。")
    assert read_one(path, own).text == "何?\n\n歯肉。\n壊血病。"
    # the columns of medical-o1-reasoning-SFT
    published = {"Question": "何?", "Complex_CoT": "歯肉。", "Response": "壊血病。"}
    columns = {"instruction": "Question", "output": "Response", "reasoning_content": "Complex_CoT"}
    assert read_one(path, published, **columns) == read_one(path, own)
    with pytest.raises(InputError, match=r"cot.jsonl:1: two different thoughts, in thinking and reasoning; keep one"):
        read_one(path, own | {"thinking": "皮下。"})
