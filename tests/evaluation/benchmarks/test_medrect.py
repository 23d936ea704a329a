"""MedRECT, the case items it was made from, and JMED-LLM: counts, tiny files of our own, and invalid records."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import load
from jmedllm.evaluation.prompts import load_pack, messages, render

ROOT = Path(__file__).parents[3]


@pytest.mark.exhaustive
def test_the_documented_differences_between_copies(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    import compare_exam_copies

    table = compare_exam_copies.table(shared)
    assert table in (ROOT / "docs" / "evaluation" / "benchmarks.md").read_text(encoding="utf-8")
    assert "| `igakuqa` | items in both | 740 | |" in table and "another answer" not in table
    del sys.modules["compare_exam_copies"]


def test_counts_of_case_items(shared: Path) -> None:
    questions = load("jmle-cases", "ja", shared)
    assert Counter(len(q.choices) for q in questions) == {5: 1180, 6: 2, 8: 1}
    assert Counter(q.select for q in questions) == {1: 1036, 2: 113, 3: 34}
    assert sum(q.points == 0 for q in questions) == 7
    assert [q.id for q in load("jmle-cases", "ja", shared, "2023")][:2] == ["117A18", "117A19"]


@pytest.mark.parametrize(("language", "flawed"), [("ja", 367), ("en", 243)])
def test_counts_of_medrect(shared: Path, language: str, flawed: int) -> None:
    questions = load("medrect", language, shared)
    assert sum(q.reference != "CORRECT" for q in questions) == flawed
    assert all(q.instruction and q.stem.startswith("1.") and q.is_free_text for q in questions)


def test_counts_of_jmed_llm(shared: Path) -> None:
    assert Counter(len(q.choices) for q in load("rrtnm", "ja", shared)) == {2: 45, 4: 40, 5: 15}
    assert Counter(min(q.gold) for q in load("crade", "ja", shared)) == {0: 25, 1: 25, 2: 25, 3: 25}
    assert Counter(q.subject for q in load("smdis", "ja", shared))["influenza"] == 13
    assert sum(len(json.loads(q.reference or "")) for q in load("mrner-medicine", "ja", shared)) == 250


CASE: dict[str, Any] = {
    "id": "117B26",
    "question": "どれか。2つ選べ。",
    "choices": {"a": "甲", "b": "乙", "c": "丙"},
    "answer": ["a", "c"],
}
TEXT: dict[str, Any] = {
    "sample_id": "x_a",
    "sentences": "1. 甲である。\n2. 乙である。",
    "error_flag": 1,
    "error_type": "診断エラー",
    "error_sentence_id": 2,
    "corrected_sentence": "丙\nである。",
}
NO_ERROR = {**TEXT, "sample_id": "x_b", "error_flag": 0, "error_type": None, "error_sentence_id": None}
SOURCE = "jmle-2018-2025-source-questions.json"
STEP3, STEP4 = "medrect-ja-step3-deduplicated.json", "medrect-ja-step4-rejected.json"


def write(data: Path, files: dict[str, list[dict[str, Any]]]) -> Path:
    folder = data / "medrect"
    folder.mkdir(exist_ok=True)
    for name, records in files.items():
        (folder / name).write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    return folder


def test_tiny_case_items(tmp_path: Path) -> None:
    letters = {**CASE, "id": "112A3", "choices": {"a": "", "b": ""}, "answer": ["b"]}
    write(tmp_path, {SOURCE: [CASE, letters, {**CASE, "id": "112A12"}]})
    first, _, last = load("jmle-cases", "ja", tmp_path)
    assert (first.id, first.choices, first.gold, first.points) == ("112A3", ("a", "b"), {1}, 1)
    assert (last.id, last.gold, last.select, last.points, last.flags) == ("117B26", {0, 2}, 2, 3, {"required"})
    assert [q.id for q in load("jmle-cases", "ja", tmp_path, "2023")] == ["117B26"]
    assert load("jmle-cases", "ja", tmp_path, "2024") == []


def test_tiny_medrect(tmp_path: Path) -> None:
    rejected = {**TEXT, "sample_id": "x_c"}
    write(tmp_path, {STEP3: [TEXT, NO_ERROR, rejected], STEP4: [rejected], "medrect-en-accepted.json": [TEXT]})
    flawed, right = load("medrect", "ja", tmp_path)
    assert (flawed.id, flawed.reference, flawed.subject) == ("x_a", "2: 丙 である。", "診断エラー")
    assert (right.reference, right.subject) == ("CORRECT", None)
    assert [q.language for q in load("medrect", "en", tmp_path)] == ["en"]
    for pack in ("instruction", "preamble", "plain"):
        [message] = messages(render(load_pack(pack, None), flawed))
        text = str(message["content"])
        assert flawed.instruction in text and flawed.stem in text and "文章で" not in text


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (SOURCE, {"id": "17B26"}, 'field "id": expected exam, section and number such as "117A1", found "17B26"'),
        (SOURCE, {"answer": []}, 'field "answer": expected at least one letter, found []'),
        (SOURCE, {"answer": ["d"]}, 'field "answer": expected letters from a to c, one for each of 3 choices'),
        (
            SOURCE,
            {"choices": {"a": "甲", "c": "丙"}},
            'field "choices": expected an object of texts such as {"a": "...',
        ),
        (SOURCE, {"choices": {"a": "甲", "b": ""}}, 'field "choices": expected texts that are not empty'),
        (STEP3, {"sentences": "甲である。"}, 'field "sentences": expected numbered sentences such as "1. ..."'),
        (STEP3, {"error_flag": 2}, 'field "error_flag": expected a whole number from 0 to 1, found 2'),
        (STEP3, {"error_sentence_id": 3}, 'field "error_sentence_id": expected a whole number from 1 to 2, found 3'),
        (STEP3, {"corrected_sentence": None}, 'field "corrected_sentence": expected a text, found null'),
    ],
)
def test_invalid_records(tmp_path: Path, file: str, change: dict[str, Any], message: str) -> None:
    first, name = (CASE, "jmle-cases") if file == SOURCE else (TEXT, "medrect")
    folder = write(tmp_path, {STEP4: [], file: [first, {**first, **change}]})
    with pytest.raises(InputError) as error:
        load(name, "ja", tmp_path)
    assert str(error.value).startswith(f"{folder / file}: entry 2: {message}")


def test_tiny_jmed_llm(tmp_path: Path) -> None:
    folder = tmp_path / "jmed_llm"
    folder.mkdir()
    head = "tag,question,optionA,optionB,optionC,optionD,optionE,answer\n"
    (folder / "rrtnm.csv").write_text(
        f'{head}M,"転移は？\n「なし」",ある,ない,,,,B\nT,どれ？,甲,乙,丙,,,C\n', encoding="utf-8"
    )
    (folder / "mrner_disease.csv").write_text("tag,question,answer\nd,症状は？,\"['発熱', '咳']\"\n", encoding="utf-8")
    first, second = load("rrtnm", "ja", tmp_path)
    assert (first.id, first.stem, first.choices, first.gold) == (
        "rrtnm-1",
        "転移は？\n「なし」",
        ("ある", "ない"),
        {1},
    )
    assert (second.choices, second.gold, second.subject) == (("甲", "乙", "丙"), {2}, "T")
    [listed] = load("mrner-disease", "ja", tmp_path)
    assert (listed.reference, listed.choices) == ('["発熱", "咳"]', ())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("smdis", "tag,question,answer\n", ":1: expected 5 fields (tag, question, optionA, optionB, answer), found 3"),
        ("smdis", "a,b,c,d,e\n", ":1: expected the header tag,question,optionA,optionB,answer; fetch the file again"),
        (
            "smdis",
            "tag,question,optionA,optionB,answer\nx,q,ある,ない,C\n",
            ':2: field "answer": expected letters from',
        ),
        ("smdis", "tag,question,optionA,optionB,answer\nx,q,,ない,A\n", ':2: field "optionA": expected at least two'),
        (
            "mrner-disease",
            "tag,question,answer\nd,q,発熱\n",
            ":2: field \"answer\": expected a list such as ['...', '...']",
        ),
        (
            "mrner-disease",
            "tag,question,answer\nd,q,[]\n",
            ":2: field \"answer\": expected a list such as ['...', '...']",
        ),
    ],
)
def test_invalid_jmed_llm(tmp_path: Path, name: str, text: str, message: str) -> None:
    file = tmp_path / "jmed_llm" / f"{name.replace('-', '_')}.csv"
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load(name, "ja", tmp_path)
    assert str(error.value).startswith(f"{file}{message}")
