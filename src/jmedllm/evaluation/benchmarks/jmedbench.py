"""JMedBench's JSONL: the Japanese translations of MedQA, MedMCQA and MMLU.

A record has `sample_id` (text or whole number), `question`, `options` (list of texts), `answer_idx` (index from 0),
`n_options` and `metadata`, as in the suite's own code (nii-nlp/med-eval, `MCQASample`). A letter in `answer_idx` is an
error.
"""

from pathlib import Path

from jmedllm.evaluation.benchmarks.rows import InputRow, data_file, jsonl_rows
from jmedllm.evaluation.question import Question

SOURCE = "jmedbench"


def read(data: Path, subset: str, split: str, benchmark: str) -> list[Question]:
    """Read one split of a Japanese subset as the questions of `benchmark`."""
    path = data_file(data, f"{SOURCE}/{subset}/{split}.jsonl", SOURCE)
    return [_question(row, benchmark) for row in jsonl_rows(path)]


def _question(row: InputRow, benchmark: str) -> Question:
    choices = row.texts("options")
    if len(choices) < 2:
        raise row.wrong("options", "at least two texts")
    if row.record.get("n_options", len(choices)) != len(choices):
        raise row.wrong("n_options", f"{len(choices)}, the number of options")
    return Question(
        id=_identity(row),
        benchmark=benchmark,
        language="ja",
        stem=row.text("question"),
        choices=choices,
        gold=frozenset({row.integer("answer_idx", 0, len(choices) - 1)}),
    )


def _identity(row: InputRow) -> str:
    value = row.record.get("sample_id")
    return str(row.integer("sample_id", 0)) if type(value) is int else row.text("sample_id")
