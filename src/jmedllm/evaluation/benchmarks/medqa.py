"""MedQA: questions in the style of the US licence exam, with four or with five options."""

from functools import partial
from pathlib import Path

from jmedllm.evaluation.benchmarks import jmedbench
from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.rows import InputRow, data_file, jsonl_rows
from jmedllm.evaluation.question import Language, Question, label

FILES = {
    ("medqa", "test"): "medqa/4_options/phrases_no_exclude_test.jsonl",
    # MedQA's dev set as MediQ distributes it, with the stem split into sentences. It is used for training, because
    # we know no address with a fixed version of the train set (10,178 questions).
    ("medqa", "train"): "medqa/4_options/mediq_all_dev_good.jsonl",
    ("medqa-5", "test"): "medqa/5_options/test.jsonl",
}
JAPANESE = {"medqa": "usmleqa_jp", "medqa-5": "medqa_jp"}


def read(benchmark: str, data: Path, language: Language, split: str) -> list[Question]:
    """Read one split of "medqa" or "medqa-5"; the Japanese one is JMedBench's translation."""
    if language == "ja":
        return jmedbench.read(data, JAPANESE[benchmark], split, benchmark)
    path = data_file(data, FILES[benchmark, split], benchmark)
    return [_question(row, benchmark, split) for row in jsonl_rows(path)]


def _question(row: InputRow, benchmark: str, split: str) -> Question:
    choices = _options(row)
    gold = row.choice("answer_idx", row.text("answer_idx"), len(choices))
    if choices[gold] != row.text("answer"):
        raise row.wrong("answer", f'the text of option {row.text("answer_idx")}, "{choices[gold]}"')
    context = row.texts("context") if "context" in row.record else ()
    return Question(
        # The files have no ids.
        id=f"{split}-{row.number}",
        benchmark=benchmark,
        language="en",
        stem=" ".join((*context, row.text("question"))),
        choices=choices,
        gold=frozenset({gold}),
        subject=row.text("meta_info") if "meta_info" in row.record else None,
    )


def _options(row: InputRow) -> tuple[str, ...]:
    """Texts of `options`, an object whose keys must be A, B, C, ... in this order."""
    options = row.record.get("options")
    texts = list(options.values()) if isinstance(options, dict) else []
    keys = [label(index).upper() for index in range(len(texts))]
    if len(texts) < 2 or list(options or ()) != keys or not all(isinstance(t, str) and t for t in texts):
        raise row.wrong("options", 'an object of texts such as {"A": "...", "B": "..."}')
    return tuple(texts)


def _card(name: str, title: str, english: dict[tuple[Language, str], int | None]) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        licence="MIT",
        sources={"en": name, "ja": jmedbench.SOURCE},
        expected_counts={**english, ("ja", "test"): 1273, ("ja", "train"): 10178, ("ja", "validation"): None},
        load=partial(read, name),
    )


MEDQA = _card(
    "medqa",
    "MedQA (USMLE), four options; train is the dev set as MediQ distributes it",
    {("en", "test"): 1273, ("en", "train"): 1272},
)
MEDQA_5 = _card("medqa-5", "MedQA (USMLE), five options", {("en", "test"): 1273})
