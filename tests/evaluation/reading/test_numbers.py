"""Answers to calculations."""

import pytest
from test_read import NUMBER, outcome, question


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        *[
            (text, "1130")
            for text in (
                "1130",
                "1,130",
                "１１３０",
                "１，１３０",
                "1130 kcal",
                "1,130kcal/日",
                "1130.0",
                "約1,130 kcal",
            )
        ],
        *[
            (text, "1130")
            for text in (
                "答え：1130",
                "答え：\n1,130kcal",
                "答えは1130kcalです。",
                "Answer: 1130",
                "\\boxed{1130}",
            )
        ],
        ("$\\boxed{1130 \\text{ kcal}}$", "1130"),
        ("**1,130 kcal**", "1130"),
        ('{"answer": 1130}', "1130"),
        ('{"answer": "1,130 kcal"}', "1130"),
        ("<think>900 + 120</think>1130", "1130"),
        ("900 + 120 + 110 = 1130\n答え：1,130 kcal", "1130"),
        ("900 + 120 + 110を計算する。よって、1,130kcalとなる。", "1130"),
        ("解答：1130kcal（小数第1位を四捨五入）", "1130"),
        ("The answer is 1130.4 ≒ 1130 kcal.", "1130"),
        ("Therefore, 900 + 230 = 1130 kcal.", "1130"),
        ("1,130 kcal\n\n内訳は900と230です。", "1130"),
        ("解答：①1130", "1130"),
        ("答え：0.40", "0.4"),
        (".5", "0.5"),
        ("答えは①. 30人, ②. 0.66 となります。", "ambiguous"),
        ("answer: ②. 0.59\n\nodds ratio = 0.6", "0.59"),
        ("900と230です。", "ambiguous"),
        ("答えは900または1130です。", "ambiguous"),
        ("①②③", "no number"),
        ("計算できません。2つの値が必要です。", "refused"),
        ("The patient weighs 50 kg.", "no number"),
        ("答え：−1130", "no number"),
        ("答え：7.3。いや、7.2が正しい。", "7.2"),
        ("答えは7.4ではなく7.2です", "7.2"),
        ("The answer is not 7.4 but 7.2.", "7.2"),
        ("答え：7.2 (正常値は7.4)", "7.2"),
        ("答え：1日1130kcal", "1130"),
        ("答え：24時間で1130 kcal", "1130"),
        ("答え：①7.②2", "7.2"),
        ("①=7, ②=2", "ambiguous"),
        ("1 130 kcal", "1130"),
        ("1130kcal(50kg×22.6)", "1130"),
        ("pHは7.20です", "7.2"),
        ("50kgの患者では 22.6 kcal/kg × 50 kg = 1130 kcal", "1130"),
        ("不明です", "refused"),
        ("計算する。", "no number"),
        ("", "empty"),
    ],
)
def test_numbers(response, expected):
    assert outcome(response, NUMBER) == expected


def test_a_number_in_slots():
    item = question((), "", stem="求めよ。解答：①．②", number="0.4")
    assert outcome("①0 ②4", item) == "0.4"
    assert outcome("①：０、②：４", item) == "0.4"


def test_a_cut_calculation_is_no_answer():
    assert outcome("まず900を", NUMBER, truncated=True) == "truncated"
    assert outcome("答え：1130。内訳は900", NUMBER, truncated=True) == "1130"
