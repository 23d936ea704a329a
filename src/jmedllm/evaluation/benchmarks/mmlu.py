"""MMLU: the 13 subjects of medicine and its neighbours, in English."""

from collections.abc import Iterator
from pathlib import Path

from jmedllm.evaluation.benchmarks import jmedbench
from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.rows import InputRow, csv_rows, data_file
from jmedllm.evaluation.question import Language, Question

SUBJECTS = (
    "anatomy",
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "high_school_biology",
    "high_school_psychology",
    "human_aging",
    "human_sexuality",
    "medical_genetics",
    "nutrition",
    "professional_medicine",
    "professional_psychology",
    "virology",
)
LEGACY_SUBJECTS = frozenset(
    {"anatomy", "clinical_knowledge", "college_medicine", "medical_genetics", "professional_medicine"}
)
"""The subjects that the published protocol evaluates, in MMLU and in JMMLU."""

HEADER = ("question", "choice0", "choice1", "choice2", "choice3", "answer")
LETTERS = ("A", "B", "C", "D")
INDICES = ("0", "1", "2", "3")


def read(data: Path, language: Language, split: str) -> list[Question]:
    """Read one split: "test", or "dev" with five questions per subject for few-shot examples."""
    if language == "ja":
        return jmedbench.read(data, "mmlu_medical_jp", split, "mmlu")
    return [
        question
        for subject in SUBJECTS
        for question in read_subject(
            data_file(data, f"mmlu/{split}/{subject}_{split}.csv", "mmlu"), subject, "mmlu", "en"
        )
    ]


def read_subject(path: Path, subject: str, benchmark: str, language: Language) -> Iterator[Question]:
    """Read one CSV file in either of its two published forms.

    With the header `question,choice0,...,answer` the answer is an index from 0. Without a header, as in the original,
    it is a letter. Spaces around texts are kept, because the published scores compare texts with them.
    """
    golds = LETTERS
    number = 0
    for row in csv_rows(path, HEADER):
        if row.number == 1 and tuple(row.record.values()) == HEADER:
            golds = INDICES
            continue
        number += 1
        yield Question(
            id=f"{subject}-{number}",
            benchmark=benchmark,
            language=language,
            stem=row.text("question"),
            choices=tuple(row.text(field) for field in HEADER[1:-1]),
            gold=frozenset({_gold(row, golds)}),
            subject=subject,
        )


def _gold(row: InputRow, golds: tuple[str, ...]) -> int:
    if row.text("answer") not in golds:
        raise row.wrong("answer", f"one of {', '.join(golds)}")
    return golds.index(row.text("answer"))


BENCHMARK = Benchmark(
    name="mmlu",
    title="MMLU, 13 subjects around medicine",
    licence="MIT",
    sources={"en": "mmlu", "ja": jmedbench.SOURCE},
    expected_counts={
        ("en", "test"): 3382,
        ("en", "dev"): 65,
        ("ja", "test"): None,
        ("ja", "train"): None,
        ("ja", "validation"): None,
    },
    load=read,
    legacy_subjects=LEGACY_SUBJECTS,
)
