"""Answers are split into thought and answer while they are written, as evaluations split whole replies."""

from random import Random

import pytest

from jmedllm.models.thoughts import split_reply
from jmedllm.serving.stop import StopFinder
from jmedllm.serving.thought import Splitter, markers_of, may_think, visible_markers

THINK = "<think>\n考え a < b, x<th\n</think>\n\n答えは b です。"
HARMONY = (
    "<|channel|>analysis<|message|>Let me think.<|end|><|start|>assistant<|channel|>commentary<|message|>More."
    "<|end|><|start|>assistant<|channel|>final<|message|>b <|x|>"
)
# reply, end of the prompt, thought, answer
REPLIES: dict[str, tuple[str, str, str, str]] = {
    "tags": (THINK, "", "考え a < b, x<th", "答えは b です。"),
    "opened by the prompt": (THINK.removeprefix("<think>\n"), "A<think>\n", "考え a < b, x<th", "答えは b です。"),
    "no thought": (" 答えは <b> です。\n", "", "", " 答えは <b> です。\n"),
    "empty thought": ("<think>\n\n</think>\n\nb", "", "", "b"),
    "white space alone": ("\n\n", "", "", "\n\n"),
    "white space first": ("\n\n<think>x</think>b", "", "x", "b"),
    "cut in the thought": ("<think>考え</thi", "", "考え</thi", ""),
    "cut in the closed thought": ("<think>考え</think>\n", "", "考え", ""),
    "an answer about tags": ("Use <think> and </think> here.", "", "", "Use <think> and </think> here."),
    "begins like a marker": ("<thin ice> b", "", "", "<thin ice> b"),
    "Harmony": (HARMONY, "<|start|>assistant", "Let me think.\n\nMore.", "b <|x|>"),
    "Harmony, answer at once": ("<|channel|>final<|message|>b", "<|start|>assistant", "", "b"),
    "Magistral": ("[THINK]考え[/THINK]b", "", "考え", "b"),
    "Gemma 4": ("<|channel>thought\n考え\n<channel|>b", "<|turn>model\n", "考え", "b"),
    "Seed-OSS": ("<seed:think>a<seed:cot_budget_reflect>9</seed:cot_budget_reflect>b</seed:think>c", "",
                 "a<seed:cot_budget_reflect>9</seed:cot_budget_reflect>b", "c"),
    "MedGemma": ("<unused94>thought\n考え<unused95>b", "", "thought\n考え", "b"),
    "Granite 3.2": ("Here is my thought process: 考え Here is my response: b", "", "考え", "b"),
    "full-width": ("＜think＞考え＜/think＞b", "", "考え", "b"),
}  # fmt: skip


def split(pieces: list[str], prompt: str) -> dict[str, str]:
    splitter = Splitter(markers_of(None), prompt)
    found = {"reasoning_content": "", "content": ""}
    for part, text in [pair for piece in pieces for pair in splitter.feed(piece)] + list(splitter.finish()):
        assert text
        found[part] += text
    return found


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_is_split_however_it_arrives(name: str) -> None:
    text, prompt, thought, answer = REPLIES[name]
    expected = {"reasoning_content": thought, "content": answer}
    random = Random(name)
    assert split([text], prompt) == expected
    assert split(list(text), prompt) == expected
    for _ in range(20):
        places = sorted(random.sample(range(len(text) + 1), min(4, len(text))))
        pieces = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
        assert split(pieces, prompt) == expected


@pytest.mark.parametrize("name", sorted(set(REPLIES) - {"an answer about tags", "cut in the thought"}))
def test_the_answer_is_that_of_an_evaluation(name: str) -> None:
    text, prompt, thought, answer = REPLIES[name]
    whole = split_reply(text, thought_open=prompt.endswith("<think>\n"))
    assert whole.answer.strip() == answer.strip()
    assert "".join(whole.thought.split()) == "".join(thought.split())


def test_which_prompts_may_begin_with_a_thought() -> None:
    template = "{{ messages }}{% if thinks %}<think>{% endif %}"
    assert may_think(template, "<a>", markers_of(template))
    assert not may_think(template, "<a><think>\n\n</think>\n\n", markers_of(template))
    assert not may_think("{{ messages }}", "<a>", markers_of(None))
    assert not may_think(None, "<think>", markers_of(None))


@pytest.mark.parametrize(
    ("control", "shown"),
    [
        ({"<think>", "</think>", "<|im_end|>"}, ("</think>", "<think>")),
        ({"<|end|>", "<|user|>"}, ()),  # Phi, where it ends an answer
        ({"<|end|>", "<|channel|>", "<|return|>"}, ("<|channel|>", "<|end|>")),
        ({"<|channel>", "<channel|>", "<turn|>"}, ("<channel|>", "<|channel>")),
    ],
)
def test_special_tokens_that_are_markers_are_shown(control: set[str], shown: tuple[str, ...]) -> None:
    assert visible_markers(frozenset(control), markers_of(None)) == shown


@pytest.mark.parametrize(
    ("stops", "pieces", "expected", "found"),
    [
        (["\n\n"], ["a\n", "\nb"], "a", True),
        (["END", "\n"], ["E", "N", "x", "EN"], "ENxEN", False),
        (["aab"], ["aaa", "ab", "c"], "aa", True),
        (["。"], ["はい。", "。"], "はい", True),
        (["x", "xy"], ["xy"], "", True),
        ([], ["ab"], "ab", False),
    ],
)
def test_stop_texts(stops: list[str], pieces: list[str], expected: str, found: bool) -> None:
    finder = StopFinder(stops)
    text = ""
    for piece in pieces:
        text += finder.feed(piece)
        if finder.found:
            break
    assert (text + finder.kept, finder.found) == (expected, found)
