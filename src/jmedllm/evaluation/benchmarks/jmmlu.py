"""JMMLU: MMLU translated into Japanese by hand, the same 13 subjects."""

from pathlib import Path

from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.mmlu import LEGACY_SUBJECTS, SUBJECTS, read_subject
from jmedllm.evaluation.benchmarks.rows import data_file
from jmedllm.evaluation.question import Language, Question


def read(data: Path, language: Language, split: str) -> list[Question]:
    """Read all subjects; the one split is "test"."""
    return [
        question
        for subject in SUBJECTS
        for question in read_subject(data_file(data, f"jmmlu/{subject}.csv", "jmmlu"), subject, "jmmlu", language)
    ]


BENCHMARK = Benchmark(
    name="jmmlu",
    title="JMMLU, 13 subjects around medicine",
    licence="CC BY-SA 4.0",
    sources={"ja": "jmmlu"},
    expected_counts={("ja", "test"): 1851},
    load=read,
    legacy_subjects=LEGACY_SUBJECTS,
)
