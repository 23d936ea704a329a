"""YakugakuQA: the Japanese pharmacist exams 97 to 109 (2012 to 2024), training questions for MPEFT."""

import re
from itertools import combinations
from pathlib import Path

from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.rows import InputRow, data_file, jsonl_rows
from jmedllm.evaluation.question import Language, Question

EXAMS = range(97, 110)
PICTURES = "IMAGES"
"""Value of `choices` if they are pictures, which the data do not have."""

NO_ANSWER = "解なし"
ANY_OF = re.compile("いずれか([1-9一二三])つ")
COUNTS = {"一": 1, "二": 2, "三": 3}


def read(data: Path, language: Language, split: str) -> list[Question]:
    """Read all exams; the one split is "train".

    Items whose choices are pictures have the flag `image` and neither choices nor gold. Items without a right answer
    (解なし) have an empty gold. If several answers were accepted, the further ones are in `also_right`.
    """
    return [question for exam in EXAMS for question in _exam(data, language, exam)]


def _exam(data: Path, language: Language, exam: int) -> list[Question]:
    folder = f"yakugakuqa/data/{exam + 1915}"
    # The metadata repeat most items four times, with the same category each time.
    subjects = {
        row.text("problem_id"): row.text("category")
        for row in jsonl_rows(data_file(data, f"{folder}/metadata_{exam:03}.jsonl", "yakugakuqa"))
    }
    items = jsonl_rows(data_file(data, f"{folder}/{exam:03}.jsonl", "yakugakuqa"))
    return [_question(row, language, subjects) for row in items]


def _question(row: InputRow, language: Language, subjects: dict[str, str]) -> Question:
    identity = row.text("problem_id")
    if identity not in subjects:
        raise row.wrong("problem_id", f"an item of metadata_{row.path.name}")
    pictures = row.record.get("choices") == PICTURES
    image = pictures or not row.boolean("text_only")
    choices = () if pictures else row.texts("choices")
    golds = [frozenset[int]()] if pictures else _golds(row, len(choices))
    return Question(
        id=identity,
        benchmark="yakugakuqa",
        language=language,
        # The stems of two items are pictures.
        stem=row.text("problem_text", may_be_empty=image),
        choices=choices,
        gold=golds[0],
        also_right=tuple(golds[1:]),
        select=max(1, len(golds[0])),
        subject=subjects[identity],
        flags=frozenset({"image"}) if image else frozenset(),
    )


def _golds(row: InputRow, count: int) -> list[frozenset[int]]:
    """Sets of choices that are right; the first is the main one.

    Upstream answers are numbers from 1. A remark in brackets, itself split at its commas, may follow the last one:
    ["2", "4", "5（いずれか2つを選択で正解とする）"] accepts any two of the three.
    """
    answer = ",".join(row.texts("answer"))
    if NO_ANSWER in answer:
        return [frozenset()]
    numbers = answer.partition("（")[0].split(",")
    if not all(re.fullmatch("[1-9]", number) and int(number) <= count for number in numbers):
        raise row.wrong("answer", f"numbers from 1 to {count}, or {NO_ANSWER}")
    indices = sorted(int(number) - 1 for number in numbers)
    any_of = ANY_OF.search(answer)
    if any_of is None:
        return [frozenset(indices)]
    picked = COUNTS.get(any_of[1]) or int(any_of[1])
    return [frozenset(some) for some in combinations(indices, picked)]


BENCHMARK = Benchmark(
    name="yakugakuqa",
    title="YakugakuQA: Japanese pharmacist exams 2012-2024, for training",
    licence="CC BY-SA 4.0",
    sources={"ja": "yakugakuqa"},
    expected_counts={("ja", "train"): 4485},
    load=read,
)
