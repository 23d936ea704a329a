"""IgakuQA: all counts, the odd items by name, and records of the wrong shape."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import load
from jmedllm.evaluation.question import Question, label

EXPECTED_COUNTS = {
    # year: items, text only, of these with 5 choices, of these one / several answers, numeric, 0 points, points
    2018: (400, 286, 284, 239, 45, 2, 1, 499),
    2019: (400, 296, 292, 248, 44, 2, 4, 496),
    2020: (400, 287, 284, 242, 42, 3, 2, 496),
    2021: (400, 301, 298, 253, 45, 2, 0, 500),
    2022: (400, 301, 297, 250, 47, 3, 4, 494),
}
TOTAL = (2000, 1471, 1455, 1232, 223, 12, 11, 2485)

Exam = dict[str, Question]


@pytest.fixture(scope="module")
def japanese(shared: Path) -> Exam:
    return {question.id: question for question in load("igakuqa", "ja", shared)}


@pytest.fixture(scope="module")
def english(shared: Path) -> Exam:
    return {question.id: question for question in load("igakuqa", "en", shared)}


def counts(questions: list[Question]) -> tuple[int, ...]:
    text_only = [q for q in questions if "image" not in q.flags]
    five = [q for q in text_only if len(q.choices) == 5]
    return (
        len(questions),
        len(text_only),
        len(five),
        sum(len(q.gold) == 1 for q in five),
        sum(len(q.gold) > 1 for q in five),
        sum(q.number is not None for q in questions),
        sum(q.points == 0 for q in questions),
        sum(q.points for q in questions),
    )


@pytest.mark.parametrize("language", ["japanese", "english"])
def test_expected_counts(language: str, request: pytest.FixtureRequest):
    exam: Exam = request.getfixturevalue(language)
    for year, expected in EXPECTED_COUNTS.items():
        assert counts([q for q in exam.values() if q.id.startswith(str(year - 1906))]) == expected
    assert counts(list(exam.values())) == TOTAL


def test_both_languages_differ_in_wording_alone(japanese: Exam, english: Exam):
    assert list(japanese) == list(english)
    for identity, ja in japanese.items():
        en = english[identity]
        for part in ("gold", "also_right", "number", "select", "points", "subject", "flags", "prohibited"):
            assert getattr(ja, part) == getattr(en, part), (identity, part)
        assert len(ja.choices) == len(en.choices)
        assert ja.examinees == en.examinees


@pytest.mark.parametrize(
    ("identity", "number"),
    [
        ("112C66", "26"),
        ("112F84", "1.2"),
        ("113A75", "146"),
        ("113F84", "7.2"),  # "7.20"
        ("114C75", "10"),  # "100", printed with a point before the last digit
        ("114D75", "97"),
        ("114F75", "1130"),  # "130" after a printed "1,"
        ("115C75", "27"),
        ("115F75", "8.5"),
        ("116B50", "2.1"),  # "21"
        ("116C75", "325"),
        ("116F74", "0.4"),  # "04"
    ],
)
def test_numeric_gold(japanese: Exam, identity: str, number: str):
    question = japanese[identity]
    assert (question.number, question.choices, question.gold) == (number, (), frozenset())


@pytest.mark.parametrize(
    ("identity", "count", "gold"),
    [("113C66", 6, "c"), ("116F75", 6, "d"), ("113F83", 8, "g"), ("115D75", 8, "e")],
)
def test_more_than_five_choices(japanese: Exam, identity: str, count: int, gold: str):
    question = japanese[identity]
    assert len(question.choices) == count
    assert [label(index) for index in question.gold] == [gold]


@pytest.mark.parametrize(
    ("identity", "letters"),
    [
        ("112A27", "cde"),  # ["cde"]
        ("112F66", "b"),  # ["ｂ"]
        ("113B26", "d"),  # ["ｄ"]
        ("115E28", "de"),  # ["d", " e"]
        ("112A1", ""),
    ],
)
def test_prohibited_choices_are_tidied(japanese: Exam, identity: str, letters: str):
    assert sorted(label(index) for index in japanese[identity].prohibited) == list(letters)


def test_odd_items(japanese: Exam, english: Exam):
    either = japanese["112B30"]
    assert (either.gold, either.also_right, either.select) == (frozenset({0}), (frozenset({3}),), 1)
    assert japanese["114C11"].choices == ("　", "　", "　", "　", "ｅ")
    assert [i for i, q in japanese.items() if "every_answer_right" in q.flags] == ["116A71"]
    repeating = [q for q in english.values() if len(set(q.choices)) < len(q.choices)]
    assert (len(repeating), sum("image" not in q.flags for q in repeating)) == (10, 7)
    assert sum(any("," in choice for choice in q.choices) for q in english.values()) == 257


def test_required_sections(japanese: Exam):
    required = {i[3] for i, q in japanese.items() if "required" in q.flags}
    others = {i[3] for i, q in japanese.items() if "required" not in q.flags}
    assert (required, others) == (set("BE"), set("ACDF"))


def test_examinees(japanese: Exam):
    question = japanese["112A1"]
    assert question.examinees == (15.7, 21.9, 6.5, 16.5, 39.3)
    assert question.examinees_right == 39.3
    assert question.subject == "小児科"
    assert japanese["113D75"].examinees == ()  # one share is printed as 1701.0
    assert japanese["113D75"].examinees_right == 80.5
    assert japanese["112A43"].examinees_right is None  # taken out of grading
    without = [i for i, q in japanese.items() if q.choices and not q.examinees]
    assert len(without) == 12 + 4


def test_select_is_the_size_of_the_gold(japanese: Exam):
    assert {q.select for q in japanese.values()} == {1, 2, 3}
    assert "2つ選べ" in next(q.stem for q in japanese.values() if q.select == 2)


BAD = [
    pytest.param(
        "112-A.jsonl",
        {"choices": "a"},
        '112-A.jsonl:3: field "choices": expected a list of texts, found "a"',
        id="choices",
    ),
    pytest.param(
        "112-A.jsonl",
        {"answer": ["f"]},
        '112-A.jsonl:3: field "answer": expected letters from a to e, one for each of 5 choices, found ["f"]',
        id="gold is no choice",
    ),
    pytest.param(
        "112-A.jsonl",
        {"answer": []},
        '112-A.jsonl:3: field "answer": expected at least one letter, found []',
        id="no gold",
    ),
    pytest.param(
        "112-A.jsonl",
        {"points": 1},
        '112-A.jsonl:3: field "points": expected a text, found 1',
        id="points",
    ),
    pytest.param(
        "112-A.jsonl",
        {"text_only": "yes"},
        '112-A.jsonl:3: field "text_only": expected true or false, found "yes"',
        id="text_only",
    ),
    pytest.param(
        "112-A.jsonl",
        {"answer": ["3"]},
        '112-A.jsonl:3: field "answer": expected letters from a to e, one for each of 5 choices, found ["3"]',
        id="a number for choices",
    ),
    pytest.param(
        "112-A_metadata.jsonl",
        {"problem_id": "112A4"},
        '112-A_metadata.jsonl:3: field "problem_id": expected "112A3" as in 112-A.jsonl, found "112A4"',
        id="another item",
    ),
    pytest.param(
        "112-A_metadata.jsonl",
        {"human_accuracy": "many"},
        '112-A_metadata.jsonl:3: field "human_accuracy": expected percentages in quotes such as "39.3", found "many"',
        id="percentage",
    ),
    pytest.param(
        "112-A_metadata.jsonl",
        {"breakdown": ["50.0", "50.0"]},
        '112-A_metadata.jsonl:3: field "breakdown": '
        'expected 5 percentages, one for each choice, or none, found ["50.0", "50.0"]',
        id="breakdown",
    ),
    pytest.param(
        "112-A_translate.jsonl",
        {"choices_en": ["one", "two"]},
        '112-A_translate.jsonl:3: field "choices_en": '
        'expected 5 choices as in the Japanese record, found ["one", "two"]',
        id="translation",
    ),
]


@pytest.fixture
def change(shared: Path, tmp_path: Path) -> Callable[[str, dict[str, Any]], Path]:
    """Change line 3 of a file of the first section; the data directory with nothing else is returned."""

    def changed(name: str, values: dict[str, Any]) -> Path:
        folder = tmp_path / "igakuqa" / "data" / "2018"
        folder.mkdir(parents=True)
        for path in (shared / "igakuqa" / "data" / "2018").glob("112-A*.jsonl"):
            shutil.copyfile(path, folder / path.name)
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        lines[2] = json.dumps({**json.loads(lines[2]), **values}, ensure_ascii=False)
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
        return tmp_path

    return changed


@pytest.mark.parametrize(("name", "values", "message"), BAD)
def test_bad_line(change, name: str, values: dict[str, Any], message: str):
    data = change(name, values)
    with pytest.raises(InputError) as error:
        load("igakuqa", "en", data)
    assert str(error.value) == f"{data}/igakuqa/data/2018/{message}"


def test_bad_number(change):
    data = change("112-A.jsonl", {"choices": [], "answer": ["a lot"]})
    with pytest.raises(InputError) as error:
        load("igakuqa", "ja", data)
    assert str(error.value) == (
        f"{data}/igakuqa/data/2018/112-A.jsonl:3: "
        'field "answer": expected a number, since there are no choices, found ["a lot"]'
    )


def test_missing_line(change):
    data = change("112-A_metadata.jsonl", {})
    path = data / "igakuqa/data/2018/112-A_metadata.jsonl"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-1]), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load("igakuqa", "ja", data)
    assert str(error.value) == f"{path}: expected 75 lines, one for each item, found 74"
