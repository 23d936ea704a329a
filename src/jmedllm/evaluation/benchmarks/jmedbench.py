"""JMedBench's JSONL: the Japanese translations of MedQA, MedMCQA and MMLU.

A record is `sample_id` (text or whole number), `question`, `options` (list of texts), `answer_idx` (index
from 0), `n_options`, `metadata`: so the suite's own evaluation code reads and writes it
(nii-nlp/med-eval, `MCQASample`). A letter in `answer_idx` is therefore an error here, not another dialect.
"""

from pathlib import Path

from jmedllm.evaluation.benchmarks.lines import Line, lines, on_disk
from jmedllm.evaluation.question import Question

SOURCE = "jmedbench"


def read(data: Path, subset: str, split: str, benchmark: str) -> list[Question]:
    """Read one split of a Japanese subset as the questions of `benchmark`."""
    path = on_disk(data, f"{SOURCE}/{subset}/{split}.jsonl", SOURCE)
    return [_question(line, benchmark) for line in lines(path)]


def _question(line: Line, benchmark: str) -> Question:
    choices = line.texts("options")
    if len(choices) < 2:
        raise line.wrong("options", "at least two texts")
    if line.record.get("n_options", len(choices)) != len(choices):
        raise line.wrong("n_options", f"{len(choices)}, the number of options")
    return Question(
        id=_identity(line),
        benchmark=benchmark,
        language="ja",
        stem=line.text("question"),
        choices=choices,
        gold=frozenset({line.integer("answer_idx", 0, len(choices) - 1)}),
    )


def _identity(line: Line) -> str:
    value = line.record.get("sample_id")
    return str(line.integer("sample_id", 0)) if type(value) is int else line.text("sample_id")
