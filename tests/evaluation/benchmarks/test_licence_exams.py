"""The licence exams after IgakuQA: all counts, the odd items by name, tiny files of our own, and invalid records."""

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, load
from jmedllm.evaluation.benchmarks.licence_exam import points
from jmedllm.evaluation.evaluate import EvalConfig, tasks
from jmedllm.evaluation.order import present
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.scorers import answer
from jmedllm.evaluation.selection import select_counted

Exam = dict[str, Question]

COUNTS = {
    # items, text only, of these with 5 choices, of these one / several answers, numeric, points, required points
    "jmle2026": (400, 302, 299, 276, 23, 3, 500, 200),
    "igakuqa119": (400, 297, 293, 263, 30, 4, 500, 200),
}


@cache
def exam(name: str, data: Path) -> Exam:
    return {question.id: question for question in load(name, "ja", data)}


def gold(question: Question) -> str:
    return "".join(label(index) for index in sorted(question.gold))


@pytest.mark.parametrize("name", COUNTS)
def test_counts(shared: Path, name: str) -> None:
    questions = list(exam(name, shared).values())
    text_only = [q for q in questions if "image" not in q.flags]
    five = [q for q in text_only if len(q.choices) == 5]
    assert (
        len(questions),
        len(text_only),
        len(five),
        sum(len(q.gold) == 1 for q in five),
        sum(len(q.gold) > 1 for q in five),
        sum(q.number is not None for q in questions),
        sum(q.points for q in questions),
        sum(q.points for q in questions if "required" in q.flags),
    ) == COUNTS[name]
    assert all((len(q.choices) == 5) == (q.number is None) and q.select == max(1, len(q.gold)) for q in questions)
    assert all(all(choice.strip() == choice for choice in q.choices) and q.stem.strip() == q.stem for q in questions)
    selected = select_counted(questions, BENCHMARKS[name].default_selection)
    assert selected.left_out == {"with a picture": len(questions) - len(text_only)}


@pytest.mark.parametrize(
    ("name", "identity", "choices", "right", "stem"),
    [
        ("jmle2026", "120A-1", ("緊急手術", "上部消化管内視鏡によるクリッピング術"), "a", "胃癌に伴う"),
        ("jmle2026", "120C-71", ("220 | 0 | 220 | 0 | 7,400 mL", "40 | 35 | 40 | 0 | 10,000 mL"), "c", "次の文を読み"),
        ("jmle2026", "120F-14", ("80,000円 | 80% | 100,000円", "20,000円 | 25% | 80,000円"), "d", "5つの禁煙"),
        ("jmle2026", "120C-58", ("安静指示", "食物繊維摂取の推奨"), "de", "58歳の男性。"),
        ("igakuqa119", "119A12", None, "ce", ""),  # "ce" in the file
        ("igakuqa119", "119E28", ("左肘正中皮静脈", "右大伏在静脈"), "a", ""),
        ("igakuqa119", "119A22", ("皮膚筋炎", "抗リン脂質抗体症候群"), "c", ""),
        ("igakuqa119", "119A16", ("円錐角膜", "桜実紅斑〈cherry red spot〉"), "d", ""),
        (
            "igakuqa119",
            "119F42",
            ("食塩相当量の摂取は15gとする。", "炭水化物の摂取は総摂取エネルギー量の30~40%とする。"),
            "c",
            "",
        ),
        ("jmle-cases", "119E28", ("左肘正中皮静脈", "右大伏在静脈"), "a", ""),
        ("jmle-cases", "113D25", ("a", "e"), "e", ""),  # the choices are rows of a table in the question
        ("jmle-cases", "117D53", None, "ac", ""),
        ("igakuqa119", "119C5", ("性的虐待", "ネグレクト"), "b", ""),
        ("igakuqa119", "119C19", ("定期予防接種", "就学時健康診断の実施"), "d", "母子保健法"),
        ("igakuqa119", "119C18", ("Malaria", "Syphilis"), "a", "Which of the following diseases does NOT"),
        ("igakuqa119", "119E45", ("「夜は眠れますか」", "「周りに同じ症状の人はいますか」"), "e", "32歳の男性。"),
        ("igakuqa119", "119E48", ("アトロピン", "グルココルチコイド"), "e", "75歳の女性。"),
        ("igakuqa119", "119F16", ("NK細胞", "細胞傷害性T細胞〈CTL〉"), "b", ""),
    ],
)
def test_odd_items(
    shared: Path, name: str, identity: str, choices: tuple[str, str] | None, right: str, stem: str
) -> None:
    question = exam(name, shared)[identity]
    assert choices in (None, (question.choices[0], question.choices[-1]))
    assert gold(question) == right
    assert question.stem.startswith(stem)
    assert not any(choice in question.stem for choice in question.choices if len(choice) > 8)


@pytest.mark.parametrize(
    ("name", "identity", "response", "correct"),
    [
        ("jmle2026", "120A-74", "0.40 g/gCr", True),
        ("jmle2026", "120A-74", "解答：①0．②4③0", True),
        ("jmle2026", "120A-74", "答え：0.4", True),
        ("jmle2026", "120A-74", "40", False),
        ("jmle2026", "120A-75", "【回答】315", True),
        ("jmle2026", "120A-75", "①3②1③5 mOsm/kgH₂O", True),
        ("jmle2026", "120D-75", "BMI = 84 / 1.73² = 28.07 ≒ 28", True),
        ("igakuqa119", "119A75", "600 mL", True),
        ("igakuqa119", "119A75", "+600", True),
        ("igakuqa119", "119D75", "abc", True),
        ("igakuqa119", "119C75", "肥満度は27%です。", True),
        ("igakuqa119", "119E28", "c", True),
        ("igakuqa119", "119E28", "a,c", False),
    ],
)
def test_replies(shared: Path, name: str, identity: str, response: str, correct: bool) -> None:
    question = exam(name, shared)[identity]
    assert answer.score_response(present(question)[0], response).correct is correct


def test_serial_items_come_after_the_text_that_they_share(shared: Path) -> None:
    found = exam("jmle2026", shared)
    serial = [q for q in found.values() if q.stem.startswith("次の文を読み")]
    assert Counter(q.id[3] for q in serial) == {"B": 10, "C": 15, "E": 10, "F": 15}
    first, second = found["120B-41"], found["120B-42"]
    assert first.stem.split("\n\n")[:2] == second.stem.split("\n\n")[:2] and first.stem != second.stem
    assert sum("問いに答えよ" in q.stem for q in exam("igakuqa119", shared).values()) == 10  # in the files


def test_the_rule_gives_the_points_of_the_exams_that_have_them(shared: Path) -> None:
    other = {q.id: q.points for q in load("igakuqa", "ja", shared) if q.points not in (0, points(q.id))}
    # In these years the border between general and clinical items is shifted.
    assert other == {"112B25": 3, "112E26": 1, "113B25": 3, "113E26": 1, "116B25": 3, "116B50": 1}


JMLE: dict[str, Any] = {
    "question_id": "120B-26",
    "block": "B",
    "number": 26,
    "question_type": "multiple_choice",
    "question_text": "26　次のうち正しいのはどれか。２つ選べ。\n\n　ａ　甲\n\n　ｂ　乙 丙\n　ｃ　丁",
    "clinical_images": ["120B-26_1.png"],
    "requires_image": True,
    "num_choices_to_select": 2,
    "answer": ["c", "a"],
}
SERIAL = {"group_id": "120C-1-2", "questions": ["120C-1", "120C-2"], "context_text": "次の文を読み、答えよ。\n"}
NUMERIC = {
    **JMLE,
    "question_id": "120C-1",
    "question_type": "calculation",
    "question_text": "1　求めよ。\n\n解答：①．② mL\n\n①　②\n0　0\n1　1\n",
    "clinical_images": [],
    "requires_image": False,
    "num_choices_to_select": 1,
    "answer": ["07.20"],
    "serial_group": SERIAL,
}


def write_jmle(data: Path, *records: dict[str, Any]) -> Path:
    path = data / "jmle2026" / "jmle2026_dataset.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return path


def write_119(data: Path, *records: dict[str, Any], key: str = "119A1,ca\n119F2,7.20\n") -> Path:
    folder = data / "igakuqa119" / "questions"
    folder.mkdir(parents=True)
    for section in "ABCDEF":
        rows = [record for record in records if record["number"][3] == section]
        (folder / f"119{section}_json.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    (folder.parent / "correct_answers.csv").write_text(f"問題番号,解答\n{key}", encoding="utf-8")
    return folder


CHOICES = ["a. 甲", "b. 乙", "c.丙", "d. 丁", "e. 戊"]
FIRST = {"number": "119A1", "question": "どれか。2つ選べ。 ", "choices": CHOICES, "has_image": True}
SECOND = {"number": "119F2", "question": "求めよ。", "choices": [], "has_image": False}


def test_tiny_jmle2026(tmp_path: Path) -> None:
    write_jmle(tmp_path, JMLE, NUMERIC)
    chosen, number = load("jmle2026", "ja", tmp_path)
    assert (chosen.id, chosen.stem, chosen.choices) == (
        "120B-26",
        "次のうち正しいのはどれか。２つ選べ。",
        ("甲", "乙 丙", "丁"),
    )
    assert (chosen.gold, chosen.select, chosen.points, chosen.flags) == ({0, 2}, 2, 3, {"image", "required"})
    assert (number.stem, number.number, number.choices) == (
        "次の文を読み、答えよ。\n\n求めよ。\n\n解答：①．② mL",
        "7.2",
        (),
    )
    assert (number.points, number.flags) == (1, set())


def test_tiny_igakuqa119(tmp_path: Path) -> None:
    write_119(tmp_path, FIRST, SECOND)
    chosen, number = load("igakuqa119", "ja", tmp_path)
    assert (chosen.stem, chosen.choices, gold(chosen)) == ("どれか。2つ選べ。", ("甲", "乙", "丙", "丁", "戊"), "ac")
    assert (chosen.select, chosen.flags, number.number) == (2, {"image"}, "7.2")


def test_pictures_are_shown_if_they_are_beside_the_files(tmp_path: Path) -> None:
    file, folder = write_jmle(tmp_path, JMLE), write_119(tmp_path, FIRST, SECOND)
    for name in ("jmle2026", "igakuqa119"):
        assert load(name, "ja", tmp_path)[0].images == ()
    (file.parent / "images").mkdir()
    with pytest.raises(
        InputError, match=r'entry 1: field "clinical_images": .*no such file, nor in .*images; copy all'
    ):
        load("jmle2026", "ja", tmp_path)
    (folder.parent / "images").mkdir()
    for path in (file.parent / "images" / "120B-26_1.png", *(folder.parent / f"images/119A1-{n}.png" for n in (1, 2))):
        path.write_bytes(path.name.encode())
    (folder.parent / "images" / "119A12-1.png").write_bytes(b"of another item")
    assert [picture.path.name for picture in load("jmle2026", "ja", tmp_path)[0].images] == ["120B-26_1.png"]
    pictures = load("igakuqa119", "ja", tmp_path)[0].images
    assert [picture.path.name for picture in pictures] == ["119A1-1.png", "119A1-2.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_id": "A1"}, 'field "question_id": expected exam, section and number such as "120A-1", found "A1"'),
        (
            {"question_text": "26　どれか。\na　甲\nc　丙"},
            'field "question_text": expected a question, and below it lines that begin with a, b, c, ..., found "26　',
        ),
        ({"answer": ["a", "d"]}, 'field "answer": expected letters from a to c, one for each of 3 choices'),
        ({"answer": ["a"]}, 'field "answer": expected 2 letters, as many as num_choices_to_select, found ["a"]'),
        (
            {"serial_group": "120"},
            'field "serial_group": expected an object with the text "context_text", found "120"',
        ),
        (
            {"question_type": "calculation", "answer": ["many"]},
            'field "answer": expected one number, since the answer is calculated, found ["many"]',
        ),
    ],
)
def test_invalid_jmle2026(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    file = write_jmle(tmp_path, NUMERIC, {**JMLE, **change})
    with pytest.raises(InputError) as error:
        load("jmle2026", "ja", tmp_path)
    assert str(error.value).startswith(f"{file}: entry 2: {message}")


@pytest.mark.parametrize(
    ("change", "key", "message"),
    [
        ({"number": "119A9"}, "119A1,a\n", 'field "number": expected an item of correct_answers.csv, found "119A9"'),
        ({"choices": CHOICES[:4]}, "119A1,a\n", 'field "choices": expected 5 texts that begin with "a.", "b.", ...'),
        ({"choices": CHOICES[::-1]}, "119A1,a\n", 'field "choices": expected 5 texts that begin with "a.", "b."'),
        ({"question": ""}, "119A1,a\n", 'field "question": expected a text, found ""'),
        ({}, "119A1,f\n", 'field "解答": expected letters from a to e, one for each of 5 choices, found "f"'),
        ({}, "119A1,1a\n", 'field "解答": expected letters or a number, found "1a"'),
        ({}, "119A1,a\n119A2,b\n", "has answers to unknown items (119A2); fetch the files again"),
    ],
)
def test_invalid_igakuqa119(tmp_path: Path, change: dict[str, Any], key: str, message: str) -> None:
    write_119(tmp_path, {**FIRST, **change}, key=key)
    with pytest.raises(InputError) as error:
        load("igakuqa119", "ja", tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "expected a list of objects; fetch the file again"),
        ("[1]", "expected a list of objects; fetch the file again"),
        ("[", "broken JSON"),
    ],
)
def test_a_file_that_is_no_list_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = write_jmle(tmp_path)
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        load("jmle2026", "ja", tmp_path)


def test_corrected_items_are_said(tmp_path: Path) -> None:
    write_119(tmp_path, {**FIRST, "has_image": False}, SECOND)
    [task] = tasks(EvalConfig(benchmarks=["igakuqa119"], scorers=["answer"]), PromptConfig(), tmp_path)
    assert task.notes[0].startswith("igakuqa119: 9 items are corrected")
    assert task.notes[1] == "igakuqa119 ja: 2 questions found, 400 expected; check the files."
    assert task.selection == "graded"
