"""Questions of one's own as people keep them: formats, columns, labels, forms of answers, what is refused."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import custom
from jmedllm.evaluation.benchmarks.choice_labels import split_choices, strip_labels
from jmedllm.evaluation.benchmarks.columns import parse_map
from jmedllm.evaluation.benchmarks.custom import CustomFile, read_file


def read(path: Path, columns: str | None = None, *, skip: bool = False) -> CustomFile:
    return read_file(path, custom.ReadOptions(tuple(parse_map(columns, custom.MAP_FIELDS).items()), skip))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    return write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def problem(path: Path, columns: str | None = None, *, skip: bool = False) -> str:
    with pytest.raises(InputError) as error:
        read(path, columns, skip=skip)
    return str(error.value)


TABLE = 'qid,stem,A,B,C,key\nx1,"どれか。\n2つ選べ。",甲,乙,丙,"A,C"\nx2,どれか。,甲,乙,丙,B\n'
MAP = "id=qid,question=stem,choices=A:C,answer=key"

TABLES = {
    "CSV": ("t.csv", TABLE.encode()),
    "byte order mark and CRLF": ("t.csv", b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").encode()),
    "semicolons": ("t.csv", TABLE.replace(",", ";").replace("A;C", "A,C").encode()),
    "TSV": ("t.tsv", TABLE.replace(",", "\t").replace("A\tC", "A C").encode()),
    "blank lines": ("t.csv", TABLE.replace("x2", "\n\nx2").encode()),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_read_by_their_columns(tmp_path: Path, name: str) -> None:
    file, content = TABLES[name]
    exam = read(write(tmp_path / file, content), MAP)
    assert [(q.id, q.stem, q.choices, set(q.gold), q.select) for q in exam.questions] == [
        ("x1", "どれか。\n2つ選べ。", ("甲", "乙", "丙"), {0, 2}, 2),
        ("x2", "どれか。", ("甲", "乙", "丙"), {1}, 1),
    ]
    assert exam.notes == (f"{file}: language taken from the script: 2 ja.",)


def test_parquet_is_read_by_its_columns(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {
        "qid": [7, 8],
        "stem": ["Which?", "How many?"],
        "options": [["iron", "zinc"], []],
        "key": ["zinc", "7.20"],
        "seen": [None, 1.0],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "t.parquet")
    exam = read(tmp_path / "t.parquet", "id=qid,question=stem,choices=options,answer=key")
    assert [(q.id, q.choices, set(q.gold), q.number) for q in exam.questions] == [
        ("7", ("iron", "zinc"), {1}, None),
        ("8", (), set(), "7.2"),
    ]
    assert "without choices, answered by a number: 1" in exam.notes[0]
    assert "cannot be read as Parquet" in problem(write(tmp_path / "u.parquet", TABLE))
    assert problem(tmp_path / "none.parquet").endswith("none.parquet: no such file")


ROW = {"id": "1", "language": "ja", "question": "どれか。", "choices": ["鉄", "亜鉛"], "answer": ["b"]}
OTHER = ROW | {"id": "2"}

SHAPES = {
    "list": json.dumps([ROW, OTHER]),
    "object with a list": json.dumps({"version": 1, "data": [ROW, OTHER]}),
    "object by id": json.dumps({"1": {k: v for k, v in ROW.items() if k != "id"}, "2": OTHER}),
    "lines": json.dumps(ROW) + "\n" + json.dumps(OTHER) + "\n",
    "indented": json.dumps([ROW, OTHER], indent=1),
}


@pytest.mark.parametrize("name", SHAPES)
def test_json_files_in_any_shape(tmp_path: Path, name: str) -> None:
    exam = read(write(tmp_path / "t.json", SHAPES[name]))
    assert [(q.id, set(q.gold)) for q in exam.questions] == [("1", {1}), ("2", {1})]


CHOICES = {
    "list": (["鉄", "銅"], "b"),
    "object": ({"A": "鉄", "B": "銅"}, "B"),
    "object with numbers": ({"1": "鉄", "2": "銅"}, "2"),
    "object from 0": ({"0": "鉄", "1": "銅"}, "1"),
    "objects": ([{"label": "A", "text": "鉄"}, {"label": "B", "text": "銅"}], "B"),
    "keys and values": ([{"key": "A", "value": "鉄"}, {"key": "B", "value": "銅"}], "B"),
    "two lists": ({"text": ["鉄", "銅"], "label": ["A", "B"]}, "B"),
    "JSON in a text": ('["鉄", "銅"]', "b"),
    "Python in a text": ("['鉄', '銅']", "b"),
    "lines of a text": ("A) 鉄\nB) 銅", "B"),
    "labels": (["a. 鉄", "b. 銅"], "b"),
    "labels and an object": ({"A": "A. 鉄", "B": "B. 銅"}, "B"),
    "full-width labels": (["Ａ．鉄", "Ｂ．銅"], "Ｂ"),
    "circled": (["①鉄", "②銅"], "②"),
    "circled, answered by a number": (["①鉄", "②銅"], 2),
    "numbers": (["1. 鉄", "2. 銅"], "2"),
    "kana": (["(ア) 鉄", "(イ) 銅"], "イ"),
    "a text": (["鉄", "銅"], "銅"),
    "a label and its text": (["鉄", "銅"], "B. 銅"),
    "a label and its text, both printed": (["A) 鉄", "B) 銅"], "B) 銅"),
    "bracketed letter": (["鉄", "銅"], "(B)"),
    "numbers as choices": ([5, 10], "b"),
    "a gap at the end": (["鉄", "銅", None, ""], "b"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choices_and_answers_in_the_shapes_that_data_sets_use(tmp_path: Path, name: str) -> None:
    choices, answer = CHOICES[name]
    row = {"id": 1, "question": "どれか。", "options": choices, "key": answer}
    (question,) = read(lines(tmp_path / "t.jsonl", row), "choices=options,answer=key").questions
    assert question.choices in (("鉄", "銅"), ("5", "10"))
    assert (set(question.gold), question.id) == ({1}, "1")


LABELS = {
    "letters": (["a. x", "b. y"], ["x", "y"]),
    "full-width space": (["a　x", "b　y"], ["x", "y"]),
    "roman": (["i) x", "ii) y", "iii) z"], ["x", "y", "z"]),
    "iroha": (["イ．x", "ロ．y"], ["x", "y"]),
    "colon": (["A: x", "B: y"], ["x", "y"]),
    "types of a virus": (["A 型", "B 型"], None),
    "doses": (["1.5 mg", "2.5 mg"], None),
    "counts": (["1 mg", "2 mg"], None),
    "ratios": (["1:1", "2:1"], None),
    "stages": (["I 期", "II 期"], None),
    "pairs of labels": (["a,b", "b,c"], None),
    "pairs of circled labels": (["①、②", "②、③"], None),
    "what a figure shows": (["①の反応", "②の反応"], None),
    "anatomy": (["A. femoralis", "N. femoralis", "V. femoralis"], None),
    "one without": (["a. x", "y"], None),
    "nothing behind": (["a.", "b."], None),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_removed_only_where_they_are_labels(name: str) -> None:
    choices, expected = LABELS[name]
    found = strip_labels(choices)
    assert (list(found[0]) if found else None) == expected


@pytest.mark.parametrize(
    "choices",
    [["a. 皮膚筋炎", "b. 関節リウマチ", "d. 全身性強皮症c 結節性多発動脈炎", "e. 抗リン脂質抗体症候群"],
     ["b. x", "a. y", "c. z"]],
    ids=["one is missing", "shuffled"],
)  # fmt: skip
def test_labels_with_a_gap_or_in_another_order_are_an_error(tmp_path: Path, choices: list[str]) -> None:
    path = lines(tmp_path / "t.jsonl", ROW, OTHER | {"choices": choices, "answer": ["c"]})
    assert f'{path}:2: field "choices": they are labelled ' in problem(path)


def test_choices_below_the_question(tmp_path: Path) -> None:
    text = "次のうち正しいのは\n(1) どれか。\n\na　鉄\n\nb　銅は\n二行\nc　24時間"
    assert split_choices(text) == (
        "次のうち正しいのは\n(1) どれか。",
        ("a\u3000鉄", "b\u3000銅は\n二行", "c\u300024時間"),
    )
    assert split_choices("求めよ。\n0　0\n1　1\n2　2")[1] == ()
    assert split_choices("どれか。\n1 鉄\n2　銅")[1] == ("1\u3000鉄", "2\u3000銅")
    row = {"text": text, "answer": ["c"]}
    (question,) = read(lines(tmp_path / "t.jsonl", row), "question=text,choices=text").questions
    assert (question.choices[2], set(question.gold)) == ("24時間", {2})


def numbered(*answers: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"{n}", "question": "Which?", "choices": ["iron", "zinc", "copper"], "answer": answer}
        for n, answer in enumerate(answers)
    ]


@pytest.mark.parametrize(
    ("answers", "columns", "expected"),
    [
        ((0, 2), None, [{0}, {2}]),
        ((1, 3), None, [{0}, {2}]),
        (("1", "3"), None, [{0}, {2}]),
        (([1, 3], 2), None, [{0, 2}, {1}]),
        ((1.0, 3.0), None, [{0}, {2}]),
        ((1, 2), "answer_form=index0", [{1}, {2}]),
        ((1, 2), "answer_form=index1", [{0}, {1}]),
        (("iron", "Zinc "), None, [{0}, {1}]),
        (("a", "ac"), None, [{0}, {0, 2}]),
        (([["a"], ["c"]], "a or b"), None, [{0}, {0}]),
        (([], "c"), None, [set(), {2}]),
    ],
)
def test_the_form_of_the_answers_is_found_over_the_file(
    tmp_path: Path, answers: Any, columns: str | None, expected: list[set[int]]
) -> None:
    exam = read(lines(tmp_path / "t.jsonl", *numbered(*answers)), columns)
    assert [set(question.gold) for question in exam.questions] == expected


ALTERNATIVES = {
    "letters": [["a"], ["c"]],
    "texts": [["iron"], ["copper"]],
    "indices": [[0], [2]],
    "letters with or": "a or c",
    "texts with or": "iron or copper",
    "Japanese or": "aまたはc",
}


@pytest.mark.parametrize("name", ALTERNATIVES)
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv"])
def test_any_of_several_answers_is_right(tmp_path: Path, name: str, ending: str) -> None:
    path, rows = tmp_path / f"t.{ending}", numbered(ALTERNATIVES[name])
    if ending == "csv":
        cells = [value if isinstance(value, str) else json.dumps(value) for value in rows[0].values()]
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([list(rows[0]), cells])
    else:
        write(path, json.dumps(rows[0]) if ending == "jsonl" else json.dumps(rows))
    exam = read(path)
    assert [(set(q.gold), q.also_right, q.select) for q in exam.questions] == [({0}, (frozenset({2}),), 1)]
    assert "with several right answers, any of which counts: 1" in exam.notes[0]


def test_each_of_several_answers_may_be_a_set(tmp_path: Path) -> None:
    (question,) = read(lines(tmp_path / "t.jsonl", *numbered([["a", "b"], ["b", "c"]]))).questions
    assert (question.gold, question.also_right, question.select) == (frozenset({0, 1}), (frozenset({1, 2}),), 2)


@pytest.mark.parametrize(
    "answer",
    [[["a"], []], [["a"], "c"], [["a"], ["a"]], [["a"], ["z"]], [[["a"]], [["c"]]], [[]]],
    ids=[
        "an empty list",
        "a list and a letter",
        "the same twice",
        "no such letter",
        "lists of lists of lists",
        "none",
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_several_answers_in_a_wrong_form_are_one_line(tmp_path: Path, answer: Any, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    if ending == "jsonl":
        lines(path, ROW, OTHER | {"answer": answer})
    else:
        cell = json.dumps(answer).replace('"', '""')
        write(
            path, f'id,question,choices,answer\n1,Which?,"A) iron\nB) zinc",a\n2,Which?,"A) iron\nB) zinc","{cell}"\n'
        )
    message = problem(path)
    assert (
        f'{path}:{2 if ending == "jsonl" else 4}: field "answer": expected a list of different right answers'
        in message
    )
    assert "\n" not in message


FREE = {"id": "1", "question": "What does insulin do?"}
"""Of a question that is answered in free text."""


@pytest.mark.parametrize(
    ("row", "reference", "rubric"),
    [
        ({"reference": "It lowers glucose."}, "It lowers glucose.", None),
        ({"rubric": ["names glucose", "names the direction"]}, None, "names glucose\nnames the direction"),
        ({"reference": "It lowers glucose.", "rubric": "names glucose", "choices": [], "answer": []},
         "It lowers glucose.", "names glucose"),
    ],
    ids=["reference", "rubric", "both"],
)  # fmt: skip
def test_a_question_with_a_reference_or_a_rubric_needs_no_choices(
    tmp_path: Path, row: dict[str, Any], reference: str | None, rubric: str | None
) -> None:
    exam = read(lines(tmp_path / "t.jsonl", FREE | row))
    (question,) = exam.questions
    assert (question.reference, question.rubric, question.choices) == (reference, rubric, ())
    assert question.is_free_text and question.number is None
    assert "answered in free text: 1" in exam.notes[0] and "by a number" not in exam.notes[0]


def test_references_and_rubrics_are_mapped(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "q,ideal,criteria\nWhat does insulin do?,It lowers glucose.,names glucose\n")
    (question,) = read(path, "question=q,reference=ideal,rubric=criteria").questions
    assert (question.reference, question.rubric) == ("It lowers glucose.", "names glucose")
    plain = write(tmp_path / "u.csv", "id,question,reference\n1,What does insulin do?,It lowers glucose.\n")
    assert read(plain).questions[0].is_free_text


def test_choices_and_free_text_in_one_file(tmp_path: Path) -> None:
    exam = read(
        lines(tmp_path / "t.jsonl", ROW | {"reference": "亜鉛"}, FREE | {"id": "2", "rubric": "names glucose"})
    )
    assert [(q.is_free_text, set(q.gold), q.reference) for q in exam.questions] == [
        (False, {1}, "亜鉛"),
        (True, set(), None),
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"reference": 7}, 'field "reference": expected a text or a list of texts, found 7'),
        ({"rubric": ["", "names glucose"]}, 'field "rubric": expected a text or a list of texts'),
        ({"reference": ""}, 'field "choices": expected a list of texts, found nothing'),
        ({"reference": "x", "question": ""}, 'field "question": expected a text, found ""'),
        ({"reference": "x", "answer": "glucose"}, 'field "answer": expected a number in quotes such as "7.2"'),
    ],
)
def test_a_wrong_reference_or_rubric_is_one_line(tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    path = lines(tmp_path / "t.jsonl", FREE | row)
    assert problem(path).startswith(f"{path}:1: {expected}")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((1, 2), "t.jsonl:1: the answers may be indices from 0 or indices from 1; choose one: --map "),
        ((0, 1, 2, 3, 0), "t.jsonl: answers are indices from 1 in "),
        (("a", "d"), 't.jsonl:2: field "answer": expected letters from a to c, one for each of 3 choices'),
        ((0, 2, 7), 't.jsonl:3: field "answer": expected a number from 0 to 2, since the file\'s answers are'),
    ],
    ids=["from 0 or 1", "from 0 and 1", "no such letter", "no such index"],
)  # fmt: skip
def test_answers_that_are_not_clear_are_asked_about(tmp_path: Path, answers: Any, expected: str) -> None:
    assert expected in problem(lines(tmp_path / "t.jsonl", *numbered(*answers)))


NAMES = {
    "options": ({"options": ["a", "b"], "answer": ["b"]}, '"options" is called "choices" here', "choices=options"),
    "correct_answer": (
        {"choices": ["a", "b"], "correct_answer": "b"},
        '"correct_answer" is called "answer" here',
        "answer=correct_answer",
    ),
    "medmcqa": (
        {"opa": "x", "opb": "y", "opc": "z", "opd": "w", "cop": 1},
        '"cop" is called "answer" here',
        "choices=opa:opd,answer=cop",
    ),
    "capitals": (
        {"Question": "x", "Options": ["x", "y"], "Answer": "A"},
        '"Question" is called "question" here',
        "question=Question,choices=Options,answer=Answer",
    ),
    "letters": ({"A": "x", "B": "y", "answer": "A"}, "unknown key 'A'", "choices=A:B"),
    "numbered": (
        {"choice0": "x", "choice1": "y", "answer": "A"},
        "unknown key 'choice0'",
        "choices=choice0:choice1",
    ),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_names_of_other_data_sets_are_answered_with_ours(tmp_path: Path, name: str, ending: str) -> None:
    row, expected, columns = NAMES[name]
    record = {"id": "1", **({} if "Question" in row else {"question": "Which?"}), **row}
    path = tmp_path / f"t.{ending}"
    if ending == "jsonl":
        lines(path, record)
    else:
        write(path, f"{','.join(record)}\n{','.join('-' for _ in record)}\n")
    message = problem(path)
    assert expected in message and f"--map {columns}" in message and "\n" not in message


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("question=stm,choices=A:C,answer=key", "unknown column 'stm': did you mean stem?"),
        ("question=stem,choices=A-C,answer=key", "a range of columns is written choices=A:C"),
        ("question=stem,choices=C:A,answer=key", "column A does not follow C in the file"),
        (
            "question=stem,choices=A:C",
            "no column for answer; columns: qid, stem, A, B, C, key; name them with --map",
        ),
        ("question=stem,choices", "write field=column"),
        ("questoin=stem", "unknown field in map 'questoin': did you mean question?"),
        ("question=stem,answer_form=letters", "unknown answer_form in map 'letters': did you mean letter?"),
    ],
)
def test_a_mapping_that_does_not_fit_is_one_line(tmp_path: Path, columns: str, expected: str) -> None:
    message = problem(write(tmp_path / "t.csv", TABLE), columns)
    assert expected in message and "\n" not in message


def test_all_bad_rows_are_named_at_once_and_can_be_skipped(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", *({**ROW, "id": str(n), "answer": ["bz"[n % 2]]} for n in range(60)))
    with path.open("a") as file:
        file.write('{"id": "60", "answer": [\n{"id": "0"}\n' + json.dumps(ROW) + "\n")
    message = problem(path).split("\n")
    assert message[0].startswith("32 rows are invalid; fix them, or leave them out with --skip-invalid")
    assert message[1].startswith(f'{path}:2: field "answer": expected letters') and len(message) == 22
    assert message[-1] == "and 12 more"
    exam = read(path, skip=True)
    assert len(exam.questions) == 31 and exam.skipped[-2:] == (f"{path}:61", f"{path}:62")
    assert "invalid rows left out: 32 of 63 (2, 4, 6," in exam.notes[0] and "and 12 more" in exam.notes[0]
    assert "every row is invalid" in problem(lines(tmp_path / "u.jsonl", {"id": "1"}, {"id": "2"}), skip=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1,2,3\n", "t.csv:2: expected 2 fields (a, b), found 3"),
        ("a,a\n1,2\n", "t.csv:1: column a appears twice"),
        ('a,b\n"1,2\n', "t.csv:2: broken CSV"),
        ("質問,解答\nどれか,1\n".encode("cp932"), "t.csv:1: not UTF-8: it looks like Shift_JIS"),
        ("質問,解答\nどれか,1\n".encode("utf-16"), "t.csv:1: not UTF-8: it looks like UTF-16"),
    ],
    ids=["fields", "columns", "quotes", "Shift_JIS", "UTF-16"],
)
def test_broken_tables(tmp_path: Path, content: str | bytes, expected: str) -> None:
    columns = "question=a,choices=a,answer=b" if expected.startswith("t.csv:2: expected") else None
    assert expected in problem(write(tmp_path / "t.csv", content), columns)


@pytest.mark.parametrize(
    ("rows", "languages", "expected"),
    [
        ([ROW | {"language": "ja"}], ["ja"], None),
        ([{}], ["ja"], "language taken from the script: 1 ja"),
        ([{"question": "Which?", "choices": ["iron", "zinc"]}], ["en"], "1 en"),
        ([{}] * 9 + [{"question": "", "choices": ["Malaria", "Measles"]}], ["ja"], "10 ja"),
        ([{}, {"question": "Which?", "choices": ["iron", "zinc"]}], ["ja", "en"], "1 en, 1 ja"),
    ],
    ids=["said", "kana", "Latin", "Latin in a Japanese exam", "both"],
)
def test_the_language_is_known_from_the_script(
    tmp_path: Path, rows: list[dict[str, Any]], languages: list[str], expected: str | None
) -> None:
    plain = {key: value for key, value in ROW.items() if key != "language"}
    exam = read(lines(tmp_path / "t.jsonl", *(plain | row | {"id": str(n)} for n, row in enumerate(rows))))
    assert list(exam.languages) == languages
    assert (expected in " ".join(exam.notes)) if expected else not exam.notes


def test_an_empty_question_is_kept_with_its_choices_and_counted(tmp_path: Path) -> None:
    exam = read(lines(tmp_path / "t.jsonl", ROW | {"question": ""}))
    assert (exam.questions[0].stem, exam.notes) == (
        "",
        ("t.jsonl: choices without a question text, kept: 1.",),
    )
    path = lines(tmp_path / "u.jsonl", ROW | {"question": "", "choices": [], "answer": "7"})
    assert 'field "question": expected a text, found ""' in problem(path)


@pytest.mark.parametrize(
    ("file", "columns", "counts", "expected"),
    [
        ("medmcqa/dev.json", "choices=opa:opd,answer=cop,subject=subject_name", (4183, 0), "indices from 1"),
        ("medqa/5_options/test.jsonl", "choices=options", (1273, 0), "texts of choices"),
        ("medqa/5_options/test.jsonl", "choices=options,answer=answer_idx", (1273, 0), "not read: answer"),
        ("mmlu/test/anatomy_test.csv", "choices=choice0:choice3", (135, 0), "indices from 0"),
        ("jmmlu/anatomy.csv", "question=#1,choices=#2:#5,answer=#6", (132, 0), "without an id"),
        (
            "jmle2026/jmle2026_dataset.json",
            "id=question_id,question=question_text,choices=question_text,select=num_choices_to_select,"
            "image=requires_image",
            (398, 2),
            "395 of 398",
        ),
        ("jmed_llm/rrtnm.csv", "choices=optionA:optionE,subject=tag", (100, 0), "100 ja"),
        ("medrect/jmle-2018-2025-source-questions.json", "subject=case_classification", (1181, 2), "left out"),
    ],
)
def test_real_files(shared: Path, file: str, columns: str, counts: tuple[int, int], expected: str) -> None:
    if not (shared / file).is_file():
        pytest.skip(f"no {file}")
    exam = read(shared / file, columns, skip=True)
    assert (len(exam.questions), len(exam.skipped)) == counts and expected in exam.notes[0]


def test_igakuqa119_keeps_the_item_without_a_question_text(shared: Path, tmp_path: Path) -> None:
    folder = shared / "igakuqa119"
    if not folder.is_dir():
        pytest.skip("no igakuqa119")
    with (folder / "correct_answers.csv").open(encoding="utf-8-sig") as file:
        keys: dict[str, Any] = {row["問題番号"]: row["解答"] for row in csv.DictReader(file)}
    keys["119E28"] = [[letter] for letter in keys["119E28"]]  # either is right
    items = [row for file in sorted(folder.glob("questions/*.json")) for row in json.loads(file.read_text("utf-8"))]
    path = lines(tmp_path / "igakuqa119.jsonl", *(row | {"answer": keys[row["number"]]} for row in items))
    exam = read(path, "id=number,image=has_image", skip=True)
    questions = {question.id: question for question in exam.questions}
    assert (len(questions), len(exam.skipped)) == (396, 4)
    assert (questions["119C18"].stem, questions["119C18"].choices[0]) == ("", "Malaria")
    assert (questions["119E28"].gold, questions["119E28"].also_right) == (frozenset({0}), (frozenset({2}),))
    assert "choices without a question text, kept: 1; with several right answers" in exam.notes[0]


@pytest.mark.parametrize("encoding", ["cp932", "euc-jp", "utf-16"])
def test_a_file_in_another_encoding_is_one_line(tmp_path: Path, encoding: str) -> None:
    row = json.dumps(ROW, ensure_ascii=False) + "\n"
    message = problem(write(tmp_path / "t.jsonl", (row * 3).encode(encoding)), skip=True)
    assert "t.jsonl:1: not UTF-8: it looks like" in message and "\n" not in message


def test_parquet_without_its_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert problem(tmp_path / "t.parquet").endswith(
        "t.parquet: Parquet needs pyarrow; install it with: pip install 'pyarrow>=17'"
    )
