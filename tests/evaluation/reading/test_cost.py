"""Reading a long reply costs no more than reading a part of it, whatever its shape."""

import sys
from types import FrameType
from typing import Any

import pytest
from test_replies import QUESTIONS

from jmedllm.evaluation.question import Question
from jmedllm.evaluation.reading import mentions, read_answer, stated
from jmedllm.evaluation.reading.passages import READ_WHOLE, passages
from jmedllm.evaluation.reading.reply import Reply

NUMBER = Question("q", "own", "ja", "求めよ", (), frozenset(), number="1130")
SHAPES = [
    *("**a**", "(", "\n", " ", "A ", "b or ", "aは", "胃癌、", "12,", "①", "Answer: A\n", "【回答】"),
    *("| a | × |\n", "\\boxed{", "\\boxed{a}", '{"answer": [', "<answer>a", "Q: a\nA:", "</think>", "<|im_end|>"),
    "wait, ",
]  # fmt: skip


def calls(item: Question, reply: str) -> int:
    """How many functions are called, those in C too."""
    count = 0

    def counting(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counting)
    try:
        read_answer(item, reply)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("item", [QUESTIONS["EN_TWO"], NUMBER], ids=["choices", "number"])
def test_steps_grow_no_faster_than_the_reply(item):
    steps = {shape: [calls(item, shape * (size // len(shape))) for size in (8_500, 17_000)] for shape in SHAPES}
    assert [shape for shape, (short, long) in steps.items() if long > 2.2 * short] == []


def test_passages_of_a_long_reply():
    text = "まず a を考える。\n" + "x" * 40_000 + "\n答え：b\n" + "y" * 40_000 + "\n以上。"
    read = passages(text)
    assert len(read) <= READ_WHOLE + 1_000
    assert read.startswith("まず") and read.endswith("以上。") and "答え：b" in read
    assert passages(text[:READ_WHOLE]) == text[:READ_WHOLE]
    assert read_answer(QUESTIONS["JA"], text).chosen == {1}


@pytest.mark.parametrize("item", [QUESTIONS["JA"], QUESTIONS["LAB"]], ids=["letters", "digits"])
def test_mentions_are_weighed_up_to_a_number(item):
    """Passages may still be nothing but mentions."""
    reply = Reply(item, "aは、" * 2_000, numbered=True)
    assert len(reply.groups) <= mentions.MOST + 4
    assert len(reply.stances) <= stated.FIRST + stated.OUTRIGHT + stated.LAST


def test_the_conclusion_of_a_long_reply_counts_wherever_it_is_named_outright():
    walk = "\n".join(f"{place}. a is unlikely, and so is c, as the patient has no jaundice." for place in range(900))
    for reply in (
        f"Answer: B\n{walk}",
        f"{walk}\nAnswer: B\n{walk}",
        f"{walk}\nAnswer: B",
        f"{walk}\n**Answer**\nB",
    ):
        assert read_answer(QUESTIONS["JA"], reply).chosen == {1}
