"""JMED-LLM: five of its tasks, 100 items each, whose data have a licence that allows their use.

CRADE (is a drug event adverse), RRTNM (TNM stage in a radiology report) and SMDIS (disease in a tweet) have choices.
MRNER-disease and MRNER-medicine ask for a list of expressions; a question's `reference` is the list as JSON.
"""

import ast
from functools import partial
from pathlib import Path

from jmedllm.evaluation.benchmarks.benchmark import Agreement, Benchmark
from jmedllm.evaluation.benchmarks.rows import InputRow, data_file, headed_csv_rows
from jmedllm.evaluation.question import Language, Question
from jmedllm.files import to_json

OPTIONS = {"crade": 4, "rrtnm": 5, "smdis": 2}
"""Columns of choices; the last of them may be empty."""

INSTRUCTION = (
    '質問に当てはまる表現を、文書に書かれているとおりにすべて抜き出し、JSONの配列（例：["表現1", "表現2"]）だけを'
    "書いてください。"
)


def read_choices(task: str, data: Path, language: Language, split: str) -> list[Question]:
    """Read a task with choices; the one split is "test"."""
    options = [f"option{letter}" for letter in "ABCDE"[: OPTIONS[task]]]
    path = data_file(data, f"jmed_llm/{task}.csv", "jmed-llm")
    rows = headed_csv_rows(path, ("tag", "question", *options, "answer"))
    return [_choice_question(row, task, number, options) for number, row in enumerate(rows, start=1)]


def _choice_question(row: InputRow, task: str, number: int, options: list[str]) -> Question:
    texts = [row.text(option, may_be_empty=True) for option in options]
    choices = tuple(text for text in texts if text)
    if len(choices) < 2 or list(choices) != texts[: len(choices)]:
        raise row.wrong(options[0], "at least two choices, without a gap between them")
    return Question(
        id=f"{task}-{number}",
        benchmark=task,
        language="ja",
        stem=row.text("question"),
        choices=choices,
        gold=frozenset({row.choice("answer", row.text("answer"), len(choices))}),
        subject=row.text("tag"),
    )


def read_lists(task: str, data: Path, language: Language, split: str) -> list[Question]:
    """Read a task that asks for a list; the one split is "test"."""
    path = data_file(data, f"jmed_llm/{task.replace('-', '_')}.csv", "jmed-llm")
    rows = headed_csv_rows(path, ("tag", "question", "answer"))
    return [
        Question(
            id=f"{task}-{number}",
            benchmark=task,
            language="ja",
            stem=row.text("question"),
            choices=(),
            gold=frozenset(),
            subject=row.text("tag"),
            reference=to_json(_list(row)),
            instruction=INSTRUCTION,
        )
        for number, row in enumerate(rows, start=1)
    ]


def _list(row: InputRow) -> list[str]:
    """Return the texts of `answer`, a list as Python writes it."""
    try:
        values = ast.literal_eval(row.text("answer"))
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise row.wrong("answer", "a list such as ['...', '...']") from error
    if not isinstance(values, list) or not values or not all(isinstance(value, str) and value for value in values):
        raise row.wrong("answer", "a list such as ['...', '...']")
    return values


def _benchmark(name: str, title: str, agreement: Agreement | None) -> Benchmark:
    return Benchmark(
        name=name,
        title=f"JMED-LLM {title}",
        licence="CC BY 4.0",
        sources={"ja": "jmed-llm"},
        expected_counts={("ja", "test"): 100},
        load=partial(read_lists if agreement is None else read_choices, name),
        default_selection="graded",
        scorers=("entities",) if agreement is None else ("kappa",),
        agreement=agreement,
    )


CRADE = _benchmark("crade", "CRADE: adverse drug events in case reports", "linear_weighted_kappa")
RRTNM = _benchmark("rrtnm", "RRTNM: TNM stages in radiology reports", "kappa")
SMDIS = _benchmark("smdis", "SMDIS: diseases in social media", "kappa")
MRNER_DISEASE = _benchmark("mrner-disease", "MRNER: diseases and symptoms that a patient has", None)
MRNER_MEDICINE = _benchmark("mrner-medicine", "MRNER: medicines and their doses", None)
