"""Beside the examinees: bands and subjects, by hand."""

from jmedllm.evaluation.human_baseline import compare_with_examinees
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers.answer import AnswerItemScore


def item(name: str, subject: str | None, examinees_right: float | None) -> Question:
    return Question(name, "igakuqa", "ja", "?", ("a", "b"), frozenset({0}), subject=subject,
                    examinees_right=examinees_right)  # fmt: skip


def item_score(correct: bool) -> AnswerItemScore:
    return AnswerItemScore((0 if correct else 1,), None, "label", correct)


def test_bands_and_subjects() -> None:
    questions = [
        item("1", "循環器", 12.5),
        item("2", "循環器", 20.0),
        item("3", "小児科", 100.0),
        item("4", "循環器", 80.0),
        item("5", None, None),
        item("6", "循環器", 50.0),
    ]
    item_scores = {name: item_score(name in "34") for name in "12345"}
    found = [
        (g.kind, g.name, g.n, g.correct, g.examinees) for g in compare_with_examinees("answer", questions, item_scores)
    ]
    assert found == [
        ("difficulty", "0-20 % right", 1, 0, 0.125),
        ("difficulty", "20-40 % right", 1, 0, 0.2),
        ("difficulty", "80-100 % right", 2, 2, 0.9),
        ("subject", "循環器", 3, 1, (0.125 + 0.2 + 0.8) / 3),
        ("subject", "小児科", 1, 1, 1.0),
    ]
