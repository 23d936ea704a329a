"""Whole replies in the manner of real models, and what a careful human reads in them."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.reading import NO_ANSWER, read_answer


def question(stem: str, *choices: str, select: int = 1) -> Question:
    return Question("q", "own", "ja", stem, choices, frozenset(range(select)), select=select)


CANCERS = ("胃癌", "大腸癌", "膵癌", "肝癌", "胆嚢癌")
QUESTIONS = {
    "JA": question("診断はどれか。", *CANCERS),
    "JA_TWO": question("診断はどれか。2つ選べ。", *CANCERS, select=2),
    "JA_NEGATIVE": question("誤っているのはどれか。", *CANCERS),
    "NEURO": question(
        "最も考えられるのはどれか。",
        *("重症筋無力症", "多発性硬化症", "筋萎縮性側索硬化症", "Guillain-Barré症候群", "Parkinson病"),
    ),
    "LAB": question(
        "この患者で認められるのはどれか。",
        *("血清Na 120 mEq/L", "血清K 6.5 mEq/L", "血清Ca 12 mg/dL", "血糖 40 mg/dL"),
    ),
    "DRUG": question(
        "Which of the following drugs is the most appropriate?",
        *("Aspirin", "Warfarin", "Heparin", "Vitamin C", "Alteplase"),
    ),
    "STEP": question(
        "What is the most appropriate next step?",
        "Order a CT scan of the head",
        "Start intravenous antibiotics",
        "Discharge the patient home",
        "Request a surgical consultation",
    ),
    "KIND": question(
        "What is the most likely diagnosis?", "Type 1 diabetes", "Type 2 diabetes", "MODY", "Gestational diabetes"
    ),
    "SHARE": question("What is the risk?", "10%", "20%", "30%", "40%"),
    "VIT": question("Which vitamin is deficient?", "Vitamin A", "Vitamin B12", "Vitamin C", "Vitamin D"),
    "EN_NEG": question(
        "All of the following are anticoagulants EXCEPT:", "Aspirin", "Warfarin", "Heparin", "Alteplase"
    ),
    "EN_TWO": question(
        "Which two findings are typical? Select two.", "Fever", "Cough", "Rash", "Jaundice", "Diarrhea", select=2
    ),
}
NUMBERED = {"": None, "numbered": True, "lettered": False}


def rows() -> Iterator[tuple[str, bool | None, str, str]]:
    """Question, whether the prompt numbered its choices, what is right, and the reply."""
    name, labels = "", ""
    for line in (Path(__file__).parent / "replies.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("@ "):
            name, _, labels = line[2:].partition(" ")
        elif line and not line.startswith("# "):
            expected, _, reply = line.partition("\t")
            yield name, NUMBERED[labels], expected, reply.replace("\\n", "\n")


ANSWERS = ("b", "（Ｂ）", "b. 大腸癌", "大腸癌", "大腸癌（b）")
AROUND = (
    "%s",
    "| 選択肢 | 判定 |\n|---|---|\n| a | ○ |\n| b | × |\n| c | ○ |\n| d | ○ |\n| e | ○ |\n\n%s",
    "%s\n\na. 胃癌：正しい\nb. 大腸癌：誤り\nc. 膵癌：正しい\nd. 肝癌：誤り\ne. 胆嚢癌：誤り",
    "A. incorrect\nB. incorrect\nC. correct\nD. incorrect\nE. incorrect\n\n%s",
    "%s\n\nA. incorrect\nB. incorrect\nC. correct\nD. incorrect\nE. incorrect",
    "画像がないため正確には診断できません。\n%s",
    "%s\n\nI cannot provide medical advice. Please consult a doctor.",
)


def test_a_line_that_names_the_answer_outweighs_all_around_it():
    """Each mark in every other surrounding, with the answers in turn."""
    marks = (Path(__file__).parent / "markers.txt").read_text(encoding="utf-8").splitlines()[1:]
    answers = cycle(ANSWERS)
    replies = [
        around.replace("%s", mark.replace("\\n", "\n").replace("%s", next(answers)))
        for number, mark in enumerate(marks)
        for around in AROUND[number % 2 :: 2]
    ]
    assert len(replies) > 400
    assert [reply for reply in replies if outcome("JA", None, "b", reply) != "b"] == []


def test_replies():
    found = [(*row, outcome(*row)) for row in rows()]
    assert len(found) > 400
    assert [
        f"{name}: {expected} came out as {read}: {reply!r}"
        for name, _, expected, reply, read in found
        if read != expected and not (expected == "-" and read in NO_ANSWER)
    ] == []


def outcome(name: str, numbered: bool | None, expected: str, reply: str) -> str:
    answer = read_answer(QUESTIONS[name], reply, numbered=numbered)
    return "".join(map(label, sorted(answer.chosen))) or answer.how
