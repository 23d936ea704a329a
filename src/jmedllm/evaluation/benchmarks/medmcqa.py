"""MedMCQA: Indian medical entrance exams. Its validation split is the test split here, as is usual, because the
answers of its test split are not public."""

from pathlib import Path

from jmedllm.evaluation.benchmarks import jmedbench
from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.rows import InputRow, data_file, jsonl_rows
from jmedllm.evaluation.question import Language, Question

OPTIONS = ("opa", "opb", "opc", "opd")


def read(data: Path, language: Language, split: str) -> list[Question]:
    """Read one split; both `choice_type`s, "single" and "multi", have exactly one right option."""
    if language == "ja":
        return jmedbench.read(data, "medmcqa_jp", split, "medmcqa")
    return [_question(row) for row in jsonl_rows(data_file(data, "medmcqa/dev.json", "medmcqa"))]


def _question(row: InputRow) -> Question:
    return Question(
        id=row.text("id"),
        benchmark="medmcqa",
        language="en",
        stem=row.text("question"),
        choices=tuple(row.text(option) for option in OPTIONS),
        gold=frozenset({row.integer("cop", 1, len(OPTIONS)) - 1}),
        subject=row.text("subject_name"),
    )


BENCHMARK = Benchmark(
    name="medmcqa",
    title="MedMCQA: Indian medical entrance exams, validation split",
    licence="MIT",
    sources={"en": "medmcqa", "ja": jmedbench.SOURCE},
    expected_counts={("en", "test"): 4183, ("ja", "test"): None, ("ja", "train"): None, ("ja", "validation"): None},
    load=read,
)
