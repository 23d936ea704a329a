"""Selections: what each keeps, and that the published one keeps what was published."""

from dataclasses import replace
from pathlib import Path

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import load
from jmedllm.evaluation.question import Question
from jmedllm.evaluation.selection import default_selection, select, select_counted

PLAIN = Question("q", "igakuqa", "ja", "どれか。", tuple("甲乙丙丁戊"), frozenset({0}))
IMAGE = replace(PLAIN, flags=frozenset({"image"}))
NUMBER = replace(PLAIN, choices=(), gold=frozenset(), number="7.2")
NO_POINTS = replace(PLAIN, points=0)
NO_ANSWER = replace(PLAIN, gold=frozenset())
SIX = replace(PLAIN, choices=tuple("甲乙丙丁戊己"))
FOUR_ELSEWHERE = replace(PLAIN, benchmark="ward", choices=tuple("甲乙丙丁"))
LIMIT = replace(PLAIN, stem="あ" * 1024)
TOO_LONG = replace(PLAIN, stem="あ" * 1025)
ANATOMY = replace(PLAIN, benchmark="mmlu", subject="anatomy")
VIROLOGY = replace(PLAIN, benchmark="mmlu", subject="virology")


@pytest.mark.parametrize(
    ("question", "graded", "legacy"),
    [
        pytest.param(PLAIN, True, True, id="plain"),
        pytest.param(IMAGE, False, False, id="image"),
        pytest.param(NUMBER, True, False, id="number"),
        pytest.param(NO_POINTS, False, True, id="no points"),
        pytest.param(NO_ANSWER, False, False, id="no right answer"),
        pytest.param(SIX, True, False, id="six choices in IgakuQA"),
        pytest.param(FOUR_ELSEWHERE, True, True, id="four choices elsewhere"),
        pytest.param(LIMIT, True, True, id="as long as may be"),
        pytest.param(TOO_LONG, True, False, id="too long"),
        pytest.param(replace(TOO_LONG, language="en"), True, True, id="English may be longer"),
        pytest.param(replace(PLAIN, language="en", stem="a" * 2049), True, False, id="too long in English"),
        pytest.param(ANATOMY, True, True, id="a published subject"),
        pytest.param(VIROLOGY, True, False, id="a subject that was not"),
    ],
)
def test_select(question: Question, graded: bool, legacy: bool):
    assert select([question], "all") == [question]
    assert bool(select([question], "graded")) is graded
    assert bool(select([question], "legacy")) is legacy


@pytest.mark.parametrize(
    ("name", "language", "count"),
    [
        ("igakuqa", "ja", 1450),
        ("igakuqa", "en", 1420),
        ("medqa", "en", 1269),
        ("medqa-5", "en", 1269),
        ("medmcqa", "en", 4183),
        ("jmmlu", "ja", 677),
    ],
)
def test_published_counts(shared: Path, name: str, language: str, count: int):
    assert len(select(load(name, language, shared), "legacy")) == count


def test_graded_igakuqa(shared: Path):
    # 1,471 text-only items, less those of them with 0 points.
    assert len(select(load("igakuqa", "ja", shared), "graded")) == 1464


def test_unknown_selection():
    with pytest.raises(InputError, match=r"unknown selection 'legacyy': did you mean legacy\?"):
        select([PLAIN], "legacyy")


def test_legacy_needs_subjects():
    with pytest.raises(InputError) as error:
        select([replace(PLAIN, benchmark="mmlu")], "legacy")
    assert str(error.value) == (
        "mmlu in 'ja': the selection legacy needs subjects, which these files do not name; choose all or "
        "graded, or another language"
    )


@pytest.mark.parametrize(
    ("name", "selection", "left_out"),
    [
        ("igakuqa", "graded", {"with a picture": 529, "taken out of grading (0 points)": 7}),
        (
            "igakuqa",
            "legacy",
            {
                "with a picture": 529,
                "answered by a number": 12,
                "longer than 1,024 characters": 5,
                "without exactly 5 choices": 4,
            },
        ),
        (
            "jmmlu",
            "legacy",
            {"in subjects that the published protocol leaves out": 1170, "longer than 1,024 characters": 4},
        ),
        ("jmmlu", "all", {}),
    ],
)
def test_left_out_items_are_counted_by_reason(
    shared: Path, name: str, selection: str, left_out: dict[str, int]
) -> None:
    found = select_counted(load(name, "ja", shared), selection)
    assert found.left_out == left_out


def test_the_default_is_the_published_selection_for_published_benchmarks_only() -> None:
    assert [default_selection(name) for name in ("mmlu", "ward.jsonl", "exams/igakuqa.csv")] == [
        "legacy",
        "graded",
        "graded",
    ]
