"""Responses that repeat the list of choices and break off, instead of answering."""

import pytest

from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.reading import read_answer

STEPS = (
    "Order a CT scan of the head",
    "Start intravenous antibiotics",
    "Discharge the patient home",
    "Call a surgeon",
)
FEVER = ("Fever", "Cough", "Rash", "Jaundice", "Diarrhea")
CANCERS = ("胃癌の手術", "大腸癌の化学療法", "膵癌の放射線療法", "肝癌の塞栓術", "胆嚢癌の切除")
SHARES = ("10%", "20%", "30%", "40%")

OPENINGS = {
    "none": "",
    "sentence": "The answer is:\n",
    "marker": "Answer:\n",
    "same line": "Answer: ",
    "clause": "The correct answer is ",
    "marker, ja": "答え：\n",
    "sentence, ja": "正解は次の通りです。\n",
    "clause, ja": "答えは",
    "heading, ja": "選択肢:\n",
}
LABELS = {
    "A.": lambda index: f"{label(index).upper()}. ",
    "(a)": lambda index: f"({label(index)}) ",
    "A:": lambda index: f"{label(index).upper()}: ",
    "1.": lambda index: f"{index + 1}. ",
    "-": lambda index: "- ",
}


def question(choices, select=1) -> Question:
    return Question("q", "own", "en", "Which?", choices, frozenset(range(select)), select=select)


def listed(choices, mark, whole: int, *, cut: bool) -> str:
    lines = [mark(index) + choice for index, choice in enumerate(choices)]
    return "\n".join(lines[:whole] + ([lines[whole][: len(mark(whole)) + len(choices[whole]) // 2]] if cut else []))


@pytest.mark.parametrize("truncated", [True, False], ids=["length", "stop"])
@pytest.mark.parametrize("mark", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
@pytest.mark.parametrize("choices", [STEPS, FEVER, CANCERS, SHARES], ids=["steps", "fever", "cancers", "shares"])
def test_a_repeated_list_of_choices_is_no_answer(choices, opening, mark, truncated):
    for whole in range(1, len(choices) + 1):
        for cut in {whole < len(choices), False} if whole > 1 else {True}:
            text = opening + listed(choices, mark, whole, cut=cut)
            for numbered in (True, False, None):
                answer = read_answer(question(choices), text, truncated=truncated, numbered=numbered)
                assert not answer.answered, text
                assert answer.how in ("truncated", "too many") or not (truncated or cut), text


def test_the_response_of_a_real_model_that_was_read_as_an_answer():
    text = "The answer is:\nA. Order a CT scan of the head\nB. Start intravenous antibiotics\nC. Dis"
    assert read_answer(question(STEPS), text).how == "truncated"


KEPT = {
    "an answer before the list": ("c", 1, "Answer: C. Rash\n\nA. Fever\nB. Cough\nC. Ra"),
    "the first choice before the list": ("a", 1, "Answer: A. Fever\n\nA. Fever\nB. Cough\nC. Ra"),
    "two choices where two are asked for": ("ab", 2, "Answer:\nA. Fever\nB. Cough"),
    "two choices of which the second is cut": ("ac", 2, "Answer: A and C.\nA. Fever\nB. Cough\nC. Rash\nD. Jau"),
    "one choice": ("a", 1, "Answer: A. Fever"),
    "one choice and a reason": ("a", 1, "Answer: A. Fever\nBecause it is above 38 degrees."),
    "comments on the others": ("a", 1, "Answer: A. Fever\nB. Cough: not typical\nC. Rash: too late"),
    "a list without the first choice": ("b", 1, "Answer: B. Cough"),
}


@pytest.mark.parametrize(("letters", "select", "text"), KEPT.values(), ids=KEPT)
def test_an_answer_beside_a_list_is_kept(letters, select, text):
    answer = read_answer(question(FEVER, select), text)
    assert "".join(map(label, sorted(answer.chosen))) == letters
