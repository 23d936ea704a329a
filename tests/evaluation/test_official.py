"""The ministry's rule: five candidates over five years, as published, and its cases one by one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import load
from jmedllm.evaluation.exam_years import beside_release, by_exam_year, parse_day
from jmedllm.evaluation.offline import QuestionSet, load_answered, read_responses, score_responses
from jmedllm.evaluation.order import present
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.scorers import SCORERS, ModelOutput, answer
from jmedllm.evaluation.scorers.answer import AnswerItemScore
from jmedllm.evaluation.scorers.base import ExamOutcome
from jmedllm.evaluation.scorers.official import outcomes, pass_marks_of
from jmedllm.report.details import outcome_detail

# Correct of 400 and points in 2018 to 2022 (shared/papers.md).
CANDIDATES = {
    "gpt4": [(302, 382), (304, 385), (306, 387), (308, 398), (314, 392)],
    "chatgpt": [(208, 266), (205, 250), (212, 266), (225, 297), (230, 287)],
    "translate_chatgpt-en": [(221, 281), (219, 274), (207, 263), (229, 289), (258, 327)],
    "gpt3": [(161, 209), (166, 210), (160, 208), (157, 203), (163, 217)],
    "student-majority": [(374, 472), (372, 470), (373, 471), (377, 477), (384, 482)],
}
GPT4_PARTS = [(161, 221, 0), (170, 215, 1), (168, 219, 0), (173, 225, 0), (164, 228, 1)]
MOST = [(200, 299), (200, 296), (197, 299), (200, 300), (197, 297)]


def questions_answered(*asked: Any, **options: Any) -> list[Question]:
    return list(load_answered(QuestionSet(*asked, **options)).questions)


@pytest.fixture(scope="module")
def questions(shared: Path) -> list[Question]:
    return load("igakuqa", "ja", shared)


@pytest.mark.parametrize("year", range(2018, 2023))
@pytest.mark.parametrize("candidate", CANDIDATES)
def test_the_published_table(shared: Path, candidate: str, year: int) -> None:
    asked = questions_answered("igakuqa", None, "ja", shared, year=year)
    files = sorted((shared / "igakuqa" / "baseline_results" / str(year)).glob(f"*-?_{candidate}.jsonl"))
    responses = read_responses(files, [question.id for question in asked])
    scored = score_responses(asked, responses, ["official"], strict_letters=True)
    [outcome] = scored.exam_outcomes
    place = year - 2018
    assert (outcome.year, outcome.n, scored.missing) == (year, 400, ())
    assert (outcome.correct, outcome.points) == CANDIDATES[candidate][place]
    assert (outcome.required_max, outcome.general_max) == MOST[place]
    assert outcome.points_low < outcome.points < outcome.points_high
    if candidate == "gpt4":
        assert (outcome.required, outcome.general, outcome.prohibited) == GPT4_PARTS[place]
    assert outcome.passed is (candidate in ("gpt4", "student-majority"))


def test_a_list_of_prohibited_letters_counts_each(shared: Path, questions: list[Question]) -> None:
    # 112D43 has "de" in one string: gpt4's d is prohibited, which the published table overlooks.
    [item] = [question for question in questions if question.id == "112D43"]
    item_score = answer.score_response(present(item)[0], "d")
    assert [outcomes([item], [item_score])[0].prohibited_items] == [("112D43",)]
    assert outcomes([item], [item_score], plain_prohibited=True)[0].prohibited == 0


@pytest.mark.parametrize(
    ("name", "response", "correct"),
    [
        ("116A71", "a", True),  # every answer was accepted afterwards
        ("112B30", "a", True),  # a or d
        ("112B30", "d", True),
        ("112B30", "a,d", False),
        ("116B50", "2.1 g/日", True),  # printed in the data as 21
        ("116B50", "21", False),
        ("114F75", "答え：1,130 kcal", True),  # the leading 1 was printed on the form
        ("112A1", "no idea", False),
    ],
)
def test_special_items(questions: list[Question], name: str, response: str, correct: bool) -> None:
    [item] = [question for question in questions if question.id == name]
    assert answer.score_response(present(item)[0], response).correct is correct


def test_where_every_answer_was_accepted_everybody_has_the_points(questions: list[Question]) -> None:
    [item] = [question for question in questions if question.id == "116A71"]
    given = ModelOutput(present(item)[0], text="")
    assert SCORERS["official"].score_item(given).correct
    assert not SCORERS["answer"].score_item(given).correct


def test_without_all_items_nobody_passes_or_fails(questions: list[Question]) -> None:
    part = [question for question in questions if question.id.startswith("116")][:399]
    item_scores = [answer.score_response(present(question)[0], "a") for question in part]
    assert outcomes(part, item_scores)[0].passed is None


def test_the_fourth_prohibited_choice_fails(questions: list[Question]) -> None:
    exam = [question for question in questions if question.id.startswith("112")]
    bad = [question.id for question in exam if question.prohibited]
    for picked, passed in ((3, True), (4, False)):
        item_scores = [
            AnswerItemScore(tuple(question.prohibited), None, "label", False)
            if question.id in bad[:picked]
            else AnswerItemScore(tuple(question.gold), question.number, "label", True)
            for question in exam
        ]
        [outcome] = outcomes(exam, item_scores)
        assert (outcome.prohibited, outcome.passed) == (picked, passed)


def test_a_year_whose_prohibited_choices_are_unknown(shared: Path) -> None:
    exam = load("igakuqa119", "ja", shared)
    assert sum(question.points for question in exam if "required" in question.flags) == 200

    def outcome(right: int) -> ExamOutcome:
        scores = [AnswerItemScore((), None, "label", place < right) for place, _ in enumerate(by_section)]
        return outcomes(by_section, scores)[0]

    by_section = sorted(exam, key=lambda question: "required" not in question.flags)
    best, worst, part = outcome(400), outcome(100), outcomes(exam[:9], [AnswerItemScore((), None, "", True)] * 9)[0]
    assert (best.passed, best.decision, best.required, best.general) == (
        True,
        "passed, prohibited choices unknown",
        200,
        300,
    )
    assert (best.required_mark, best.general_mark, best.prohibited_known) == (160, 221, False)
    assert (worst.passed, worst.decision) == (False, "fail")
    assert outcome(100 + 221).passed and not outcome(100 + 220).passed
    assert (part.passed, part.decision) == (None, "items missing")


def test_recorded_answers_of_119(shared: Path) -> None:
    """Letters as models of its published leaderboard write them; the corrected items are said."""
    asked = load_answered(QuestionSet("igakuqa119", None, "ja", shared))
    wrong = {"119A19": "b", "119B29": "b", "119D75": "ab", "119F67": "ae", "119A75": "60"}
    golds = {q.id: q.number or "".join("abcde"[place] for place in sorted(q.gold)) for q in asked.questions}
    scored = score_responses(asked.questions, golds | wrong, ["official"])
    [outcome] = scored.exam_outcomes
    assert (outcome.correct, outcome.points, outcome.decision) == (395, 493, "passed, prohibited choices unknown")
    assert asked.notes[0].startswith("igakuqa119: 9 items are corrected")


def test_a_year_whose_marks_are_unknown(shared: Path) -> None:
    exam = load("jmle2026", "ja", shared)
    [outcome] = outcomes(exam, [AnswerItemScore((), None, "label", True) for _ in exam])
    assert (outcome.points, outcome.max_points, outcome.passed) == (500, 500, None)
    assert (outcome.required_mark, outcome.decision, outcome.year) == (None, "pass marks unknown", 2026)
    cells = outcome_detail([("model", "", outcome)]).rows[0].cells
    assert cells[4:7] == ("200/?", "300/?", "unknown") and cells[-1] == "pass marks unknown"


def test_marks(questions: list[Question]) -> None:
    assert {exam: (m.year, m.required, m.general) for exam, m in pass_marks_of("igakuqa").items()} == {
        "112": (2018, 160, 208),
        "113": (2019, 160, 209),
        "114": (2020, 158, 217),
        "115": (2021, 160, 209),
        "116": (2022, 158, 214),
    }


@pytest.mark.parametrize(
    ("year", "released", "words"),
    [
        (2025, "2025-01-31", "after 2025-01-31"),
        (2025, "2025-02-01", "before 2025-02-01"),
        (2024, "2024-09-19", "before 2024-09-19"),
        (2026, "2024-09-19", "after 2024-09-19"),
        (2026, None, "release unknown"),
    ],
)
def test_exams_beside_the_release_of_a_model(year: int, released: str | None, words: str) -> None:
    assert beside_release(year, released) == words


def test_scores_by_year(questions: list[Question]) -> None:
    asked = [question for question in questions if question.id[:4] in ("112A", "116A")]
    right = {question.id: AnswerItemScore((), None, "", question.id.startswith("116")) for question in asked}
    old, new = by_exam_year("answer", asked, {**right, "112A1": AnswerItemScore((), None, "", True)})
    assert (old.exam, old.year, old.n, old.correct, old.value) == ("112", 2018, 75, 1, 1 / 75)
    assert (new.exam, new.year, new.n, new.correct) == ("116", 2022, 75, 75) and new.low < new.value == new.high
    assert by_exam_year("answer", [replace(asked[0], benchmark="mine")], right) == []
    with pytest.raises(InputError, match=r"^--released: '2025' is not a day; write it as YYYY-MM-DD, such as 2025-04"):
        parse_day("2025", "--released: ")
