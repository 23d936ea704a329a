"""Thinking replies in every form in which servers and libraries write them, whole and cut inside the thought."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.evaluation.question import Question


def _choices(text: str) -> tuple[str, ...]:
    return tuple(text.split("/"))


def _item(name: str, stem: str, choices: str, gold: str, **more: Any) -> Question:
    right = frozenset(ord(letter) - ord("a") for letter in gold)
    return Question(name, "test", "en", stem, _choices(choices), right, select=len(gold) or 1, **more)


QUESTIONS = {
    each.id: each
    for each in (
        _item("jaundice", "無痛性黄疸と胆嚢腫大。診断はどれか。", "胃癌/膵頭部癌/大腸癌/肝細胞癌/胆嚢癌", "b"),
        _item("scurvy", "Which deficiency?", "Vitamin A/Vitamin B1/Vitamin C/Vitamin D/Vitamin K", "c"),
        _item(
            "dka",
            "まず行うのはどれか。",
            "生理食塩液の輸液/インスリンの静注/炭酸水素ナトリウムの静注/ブドウ糖液の輸液/利尿薬の静注",
            "a",
        ),
        _item(
            "asthma",
            "発作時の治療はどれか。2つ選べ。",
            "短時間作用性β2刺激薬の吸入/β遮断薬の内服/ステロイドの全身投与/抗ヒスタミン薬の内服"
            "/ロイコトリエン受容体拮抗薬の内服",
            "ac",
        ),
        _item(
            "stroke",
            "What should be done first?",
            "Lower the blood pressure/Repeat the CT/Give aspirin/Give alteplase/Give heparin",
            "a",
        ),
        _item("rash", "診断はどれか。", "麻疹/風疹/水痘/突発性発疹/伝染性紅斑", "d"),
        Question("dose", "test", "en", "Infusion rate in mL/h?", (), frozenset(), number="9"),
        _item(
            "stats",
            "Which is right?",
            "Sensitivity 90 %/Sensitivity 80 %/Specificity 80 %/PPV 80 %/NPV 90 %",
            "b",
        ),
    )
}


@dataclass(frozen=True)
class Thinking:
    """A thought and the answer that follows it."""

    number: int
    question: Question
    thought: str
    answer: str


def replies() -> list[Thinking]:
    blocks = Path(__file__).with_name("thoughts.txt").read_text(encoding="utf-8").split("### ")[1:]
    found = []
    for number, block in enumerate(blocks):
        name, _, rest = block.partition("\n")
        thought, _, answer = rest.partition("\n---\n")
        found.append(Thinking(number, QUESTIONS[name], thought, answer.rstrip("\n")))
    return found


@dataclass(frozen=True)
class Form:
    """How a thought arrives: text before it, between it and the answer, and behind the answer."""

    opening: str
    closing: str
    end: str = ""
    thought_open: bool | None = False

    def cut(self, thought: str) -> str:
        return self.opening + thought

    def whole(self, reply: Thinking) -> str:
        return self.opening + reply.thought + self.closing + reply.answer + self.end


_FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"
FORMS = {
    "tags": Form("<think>\n", "\n</think>\n\n"),
    "tags of Mistral": Form("[THINK]", "[/THINK]"),
    "tags of Seed-OSS": Form("<seed:think>\n", "</seed:think>"),
    "tags of Gemma 4": Form("<|channel>thought\n", "\n<channel|>", "<turn|>"),
    "tags of Cohere": Form("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>", "<|END_RESPONSE|>"),
    "opened by the prompt": Form("", "\n</think>\n\n", thought_open=True),
    "opened by the prompt and again": Form("<think>\n", "\n</think>\n\n", thought_open=True),
    "Harmony": Form("<|channel|>analysis<|message|>", _FINAL, "<|return|>"),
    "Harmony with its header": Form("<|start|>assistant<|channel|>analysis<|message|>", _FINAL),
    "Harmony without special tokens": Form("analysis", "assistantfinal"),
    "Harmony opened by the prompt": Form("", _FINAL, thought_open=True),
    "Harmony without special tokens, opened by the prompt": Form("", "assistantfinal", thought_open=True),
}

UNKNOWN = {
    "tags": Form("", "\n</think>\n\n", thought_open=None),
    "Harmony": Form("", _FINAL, thought_open=None),
    "Harmony without special tokens": Form("", "assistantfinal", thought_open=None),
    "tags of Mistral": Form("", "[/THINK]", thought_open=None),
}
"""The prompt opened the thought, but nothing says so."""


def cuts(thought: str, every: int) -> Iterator[str]:
    """Yield the thought up to each line end, and up to every so many characters."""
    ends = {at for at, character in enumerate(thought) if character == "\n"} | {len(thought)}
    for at in sorted(ends | {end + 1 for end in ends} | set(range(every, len(thought), every))):
        yield thought[:at]
