"""A user's own exam."""

import json
from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import load
from jmedllm.evaluation.question import Question

PLAIN = {
    "id": "q1",
    "question": "どれか。",
    "choices": ["甲", "乙", "丙"],
    "answer": ["c"],
    "language": "ja",
}
WITHOUT = {key: value for key, value in PLAIN.items() if key != "answer"}


@pytest.fixture
def exam(tmp_path: Path):
    def write(*records: dict[str, Any]) -> str:
        path = tmp_path / "ward.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return str(path)

    return write


def test_question(exam, tmp_path: Path):
    full = {**PLAIN, "answer": ["a", "B"], "select": 2, "points": 3, "subject": "内科", "image": True}
    assert load(exam(full), "ja", tmp_path) == [
        Question(
            id="q1",
            benchmark="ward",
            language="ja",
            stem="どれか。",
            choices=("甲", "乙", "丙"),
            gold=frozenset({0, 1}),
            select=2,
            points=3,
            subject="内科",
            flags=frozenset({"image"}),
        )
    ]


@pytest.mark.parametrize(
    ("record", "gold", "number"),
    [
        pytest.param(PLAIN, {2}, None, id="letter"),
        pytest.param({**PLAIN, "answer": []}, set(), None, id="no right answer"),
        pytest.param({**PLAIN, "choices": [], "answer": "07.20"}, set(), "7.2", id="number"),
        pytest.param({**PLAIN, "choices": [], "answer": []}, set(), None, id="no right number"),
    ],
)
def test_answers(exam, tmp_path: Path, record: dict[str, Any], gold: set[int], number: str | None):
    (question,) = load(exam(record), "ja", tmp_path)
    assert (question.gold, question.number, question.select) == (gold, number, 1)


def test_a_number_is_an_id(exam, tmp_path: Path):
    assert [question.id for question in load(exam({**PLAIN, "id": 7}), "ja", tmp_path)] == ["7"]


def test_languages_are_kept_apart(exam, tmp_path: Path):
    path = exam(PLAIN, {**PLAIN, "language": "en"}, {**PLAIN, "id": "q2"})
    assert [question.id for question in load(path, "ja", tmp_path)] == ["q1", "q2"]
    assert [question.id for question in load(path, "en", tmp_path)] == ["q1"]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**PLAIN, "chioces": []}, "unknown key 'chioces': did you mean choices?"),
        (WITHOUT, 'field "answer": expected a list of letters such as ["c"], found nothing'),
        ({**PLAIN, "answer": True}, 'field "answer": expected a list of letters such as ["c"], found true'),
        (
            {**PLAIN, "answer": ["d"]},
            'field "answer": expected letters from a to c, one for each of 3 choices, found ["d"]',
        ),
        (
            {**PLAIN, "choices": [], "answer": "seven"},
            'field "answer": expected a number in quotes such as "7.2", since there are no choices, found "seven"',
        ),
        (
            {**PLAIN, "choices": ["甲"]},
            'field "choices": expected two or more texts, or none for a number or free text, found ["甲"]',
        ),
        ({**PLAIN, "choices": ["甲", ""]}, 'field "choices": expected a list of texts, found ["甲", ""]'),
        ({**PLAIN, "language": "de"}, 'field "language": expected one of ja, en, found "de"'),
        ({**PLAIN, "id": 1.5}, 'field "id": expected a text or a whole number, found 1.5'),
        ({**PLAIN, "select": 2}, 'field "select": expected 1, the number of letters in the answer, found 2'),
        ({**PLAIN, "select": 4}, 'field "select": expected a whole number from 1 to 3, found 4'),
        ({**PLAIN, "points": -1}, 'field "points": expected a whole number of at least 0, found -1'),
        ({**PLAIN, "image": "no"}, 'field "image": expected true or false, found "no"'),
        ({**PLAIN, "id": "q0"}, 'field "id": expected an id of its own (line 1 has the same), found "q0"'),
        (
            {**PLAIN, "question": ["x" * 100]},
            f'field "question": expected a text, found ["{"x" * 58}...',
        ),
    ],
)
def test_bad_line(exam, tmp_path: Path, record: dict[str, Any], message: str):
    path = exam({**PLAIN, "id": "q0"}, record)
    with pytest.raises(InputError) as error:
        load(path, "ja", tmp_path)
    assert str(error.value) == f"{path}:2: {message}"


def test_no_question_in_the_language(exam, tmp_path: Path):
    path = exam(PLAIN)
    with pytest.raises(InputError) as error:
        load(path, "en", tmp_path)
    assert str(error.value) == f'{path}: no question with "language": "en"; choose another --language'


def test_missing_file(tmp_path: Path):
    with pytest.raises(InputError) as error:
        load(str(tmp_path / "none.jsonl"), "en", tmp_path)
    assert str(error.value) == f"{tmp_path}/none.jsonl: no such file"
