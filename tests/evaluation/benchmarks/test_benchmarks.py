"""The other benchmarks: counts, odd items, and records of the wrong shape."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import SHARED_SOURCES
from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, load
from jmedllm.evaluation.benchmarks.mmlu import SUBJECTS
from jmedllm.evaluation.question import Question

MEDQA = {
    "question": "Which vitamin?",
    "answer": "A",
    "options": {"A": "A", "B": "C", "C": "D", "D": "K"},
    "answer_idx": "A",
    "meta_info": "step1",
}
MEDMCQA = {
    "id": "x",
    "question": "Which vitamin?",
    "opa": "A",
    "opb": "C",
    "opc": "D",
    "opd": "K",
    "cop": 1,
    "subject_name": "Biochemistry",
}
YAKUGAKU = {
    "problem_id": "097001",
    "problem_text": "どれか。",
    "choices": ["甲", "乙", "丙"],
    "text_only": True,
    "answer": ["1"],
}
JMEDBENCH = {
    "sample_id": "s1",
    "question": "どれか。",
    "options": ["甲", "乙", "丙", "丁"],
    "answer_idx": 2,
    "n_options": 4,
    "metadata": {},
}


def duplicates(questions: list[Question]) -> int:
    return sum(len(set(question.choices)) < len(question.choices) for question in questions)


@pytest.mark.parametrize(
    ("name", "language", "split", "count"),
    [
        (name, language, split, count)
        for name, benchmark in BENCHMARKS.items()
        for (language, split), count in benchmark.expected_counts.items()
        if benchmark.sources[language] in (None, *SHARED_SOURCES)
    ],
)
def test_expected_counts(shared: Path, name: str, language: str, split: str, count: int):
    questions = load(name, language, shared, split)
    assert len(questions) == len({question.id for question in questions}) == count
    assert {(question.benchmark, question.language) for question in questions} == {(name, language)}


@pytest.mark.parametrize(
    ("name", "language", "choices", "repeated"),
    [("medqa", "en", 4, 0), ("medqa-5", "en", 5, 0), ("medmcqa", "en", 4, 21), ("jmmlu", "ja", 4, 6)],
)
def test_choices(shared: Path, name: str, language: str, choices: int, repeated: int):
    questions = load(name, language, shared)
    assert {len(question.choices) for question in questions} == {choices}
    assert {len(question.gold) for question in questions} == {1}
    assert duplicates(questions) == repeated


def test_medqa_train_joins_the_sentences(shared: Path):
    first = load("medqa", "en", shared, "train")[0]
    assert first.stem.startswith("A 21-year-old sexually active male complains of fever, pain during urination")
    assert first.stem.endswith(
        "for the patient. The mechanism of action of the medication given blocks cell wall synthesis, "
        "which of the following was given?"
    )
    assert first.gold_choices == ("Ceftriaxone",)


def test_mmlu_subjects(shared: Path):
    assert {q.subject for q in load("mmlu", "en", shared)} == set(SUBJECTS)
    assert {q.subject for q in load("jmmlu", "ja", shared)} == set(SUBJECTS)
    few_shot = load("mmlu", "en", shared, "dev")
    assert [q.id for q in few_shot[:6]] == [*(f"anatomy-{n}" for n in range(1, 6)), "clinical_knowledge-1"]


def test_jmmlu_text_is_kept_to_the_blank(shared: Path):
    first = load("jmmlu", "ja", shared)[0]
    assert first.stem.startswith("「皿状顔貌")  # after a byte order mark
    assert first.choices[2] == " 水頭症による前頭骨の肥大"
    # Two stems of one file contain CRLF.
    assert not any("\r" in text for q in load("jmmlu", "ja", shared) for text in (q.stem, *q.choices))


def test_yakugakuqa(shared: Path):
    questions = {question.id: question for question in load("yakugakuqa", "ja", shared, "train")}
    pictures = [q for q in questions.values() if not q.choices]
    assert len(pictures) == 396
    assert all("image" in q.flags and not q.gold for q in pictures)
    assert sum("image" in q.flags for q in questions.values()) == 1464
    assert sum(bool(q.choices) and not q.gold for q in questions.values()) == 15  # 解なし
    assert questions["105049"].stem == ""  # the stem is a picture
    any_of_two = questions["101021"]
    assert (any_of_two.gold, any_of_two.also_right, any_of_two.select) == ({0}, ({1},), 1)
    two_of_three = questions["103127"]
    assert (two_of_three.gold, two_of_three.also_right) == ({1, 3}, ({1, 4}, {3, 4}))
    assert two_of_three.select == 2
    assert questions["104001"].subject == "Physics"


MMLU_SHAPES = [
    pytest.param('question,choice0,choice1,choice2,choice3,answer\n"Q, 1",a,b,c,d,2\n', id="header, index"),
    pytest.param('"Q, 1",a,b,c,d,C\n', id="bare, letter"),
    pytest.param('\ufeff"Q, 1",a,b,c,d,C\r\n', id="bare, letter, BOM and CRLF"),
]


@pytest.mark.parametrize("text", MMLU_SHAPES)
def test_mmlu_shapes(tmp_path: Path, text: str):
    for subject in SUBJECTS:
        path = tmp_path / "jmmlu" / f"{subject}.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    first = load("jmmlu", "ja", tmp_path)[0]
    assert (first.id, first.stem, first.choices, first.gold) == ("anatomy-1", "Q, 1", tuple("abcd"), {2})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("Q,a,b,c,d,2", 'field "answer": expected one of A, B, C, D, found "2"'),
        ("Q,a,b,c,d,E", 'field "answer": expected one of A, B, C, D, found "E"'),
        ("Q,a,,c,d,A", 'field "choice1": expected a text, found ""'),
        (
            "Q,a,b,c,A",
            "expected 6 fields (question, choice0, choice1, choice2, choice3, answer), found 5; "
            "put quotes around texts with commas",
        ),
        ('"Q,a', "broken CSV: unexpected end of data; fix the quotes of this row"),
    ],
)
def test_mmlu_bad_row(tmp_path: Path, row: str, message: str):
    path = tmp_path / "jmmlu" / "anatomy.csv"
    path.parent.mkdir()
    # A text over two lines: the complaint must name the line where the bad row begins.
    path.write_text(f'"Q\n1",a,b,c,d,A\n{row}\n', encoding="utf-8")
    with pytest.raises(InputError) as error:
        load("jmmlu", "ja", tmp_path)
    assert str(error.value).removeprefix(f"{path}:3: ") == message


def write(path: Path, *records: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")
    return path


def write_yakugakuqa(data: Path, record: dict[str, Any]) -> Path:
    folder = data / "yakugakuqa" / "data" / "2012"
    write(folder / "metadata_097.jsonl", {"problem_id": "097001", "category": "Law"})
    return write(folder / "097.jsonl", record)


@pytest.mark.parametrize(
    ("subset", "name"),
    [
        ("usmleqa_jp", "medqa"),
        ("medqa_jp", "medqa-5"),
        ("medmcqa_jp", "medmcqa"),
        ("mmlu_medical_jp", "mmlu"),
    ],
)
@pytest.mark.parametrize("split", ["test", "train", "validation"])
def test_jmedbench(tmp_path: Path, subset: str, name: str, split: str):
    path = tmp_path / "jmedbench" / subset / f"{split}.jsonl"
    write(path, JMEDBENCH, {**JMEDBENCH, "sample_id": 7, "answer_idx": 0})
    text, number = load(name, "ja", tmp_path, split)
    assert (text.id, number.id) == ("s1", "7")
    assert (text.gold, text.choices, text.benchmark) == ({2}, ("甲", "乙", "丙", "丁"), name)


BAD = [
    pytest.param(
        "medqa",
        {**MEDQA, "answer_idx": "B"},
        'field "answer": expected the text of option B, "C", found "A"',
        id="medqa: answer and its letter differ",
    ),
    pytest.param(
        "medqa",
        {**MEDQA, "answer_idx": "E"},
        'field "answer_idx": expected letters from a to d, one for each of 4 choices, found "E"',
        id="medqa: gold is no choice",
    ),
    pytest.param(
        "medqa",
        {**MEDQA, "options": {"A": "A", "C": "C"}},
        'field "options": expected an object of texts such as {"A": "...", "B": "..."}, found {"A": "A", "C": "C"}',
        id="medqa: a letter is missing",
    ),
    pytest.param(
        "medmcqa",
        {**MEDMCQA, "cop": 0},
        'field "cop": expected a whole number from 1 to 4, found 0',
        id="medmcqa: gold is no choice",
    ),
    pytest.param(
        "medmcqa",
        {key: value for key, value in MEDMCQA.items() if key != "opd"},
        'field "opd": expected a text, found nothing',
        id="medmcqa: no fourth option",
    ),
    pytest.param(
        "yakugakuqa",
        {**YAKUGAKU, "answer": ["4"]},
        'field "answer": expected numbers from 1 to 3, or 解なし, found ["4"]',
        id="yakugakuqa: gold is no choice",
    ),
    pytest.param(
        "yakugakuqa",
        {**YAKUGAKU, "problem_text": ""},
        'field "problem_text": expected a text, found ""',
        id="yakugakuqa: no stem and no picture",
    ),
    pytest.param(
        "yakugakuqa",
        {**YAKUGAKU, "problem_id": "097999"},
        'field "problem_id": expected an item of metadata_097.jsonl, found "097999"',
        id="yakugakuqa: no metadata",
    ),
    pytest.param(
        "jmedbench",
        {**JMEDBENCH, "answer_idx": "C"},
        'field "answer_idx": expected a whole number from 0 to 3, found "C"',
        id="jmedbench: a letter",
    ),
    pytest.param(
        "jmedbench",
        {**JMEDBENCH, "answer_idx": 4},
        'field "answer_idx": expected a whole number from 0 to 3, found 4',
        id="jmedbench: gold is no choice",
    ),
    pytest.param(
        "jmedbench",
        {**JMEDBENCH, "answer_idx": True},
        'field "answer_idx": expected a whole number from 0 to 3, found true',
        id="jmedbench: a truth value",
    ),
    pytest.param(
        "jmedbench",
        {**JMEDBENCH, "n_options": 5},
        'field "n_options": expected 4, the number of options, found 5',
        id="jmedbench: miscounted",
    ),
    pytest.param(
        "jmedbench",
        {**JMEDBENCH, "options": ["甲"]},
        'field "options": expected at least two texts, found ["甲"]',
        id="jmedbench: one option",
    ),
    pytest.param(
        "jmedbench",
        {**JMEDBENCH, "sample_id": ""},
        'field "sample_id": expected a text, found ""',
        id="jmedbench: no id",
    ),
]


@pytest.mark.parametrize(("which", "record", "message"), BAD)
def test_bad_line(tmp_path: Path, which: str, record: dict[str, Any], message: str):
    if which == "medqa":
        path = write(tmp_path / "medqa/4_options/phrases_no_exclude_test.jsonl", record)
        arguments = ("medqa", "en", tmp_path)
    elif which == "medmcqa":
        path = write(tmp_path / "medmcqa/dev.json", record)
        arguments = ("medmcqa", "en", tmp_path)
    elif which == "yakugakuqa":
        path = write_yakugakuqa(tmp_path, record)
        arguments = ("yakugakuqa", "ja", tmp_path, "train")
    else:
        path = write(tmp_path / "jmedbench/usmleqa_jp/test.jsonl", record)
        arguments = ("medqa", "ja", tmp_path)
    with pytest.raises(InputError) as error:
        load(*arguments)
    assert str(error.value) == f"{path}:1: {message}"
