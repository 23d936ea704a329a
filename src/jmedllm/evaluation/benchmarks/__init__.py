"""Benchmarks: one file each, registered here, and a user's own exam file."""

from collections.abc import Mapping
from pathlib import Path

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.benchmarks import custom, demo, igakuqa, jmmlu, medmcqa, medqa, mmlu, yakugakuqa
from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.file_formats import is_table
from jmedllm.evaluation.question import LANGUAGES, Question

__all__ = ["BENCHMARKS", "Benchmark", "load"]

BENCHMARKS: Mapping[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        igakuqa.BENCHMARK,
        medqa.MEDQA,
        medqa.MEDQA_5,
        medmcqa.BENCHMARK,
        mmlu.BENCHMARK,
        jmmlu.BENCHMARK,
        yakugakuqa.BENCHMARK,
        demo.DEMO,
        demo.BLANKED,
    )
}


def load(
    name: str,
    language: str,
    data: Path,
    split: str = "test",
    read_options: custom.ReadOptions = custom.DEFAULT_READ_OPTIONS,
) -> list[Question]:
    """Load all questions of one language and split, without any selection.

    Args:
        name: a registered benchmark, or the path of a user's own questions (see `tables.is_table`), which are one
            split by whatever name.
        data: the data directory, laid out as `jmedllm data get` does.
        read_options: how a user's own file is read.

    Raises:
        InputError: there is no such benchmark, language or split; the files are not on disk (the message
            names the command that fetches them); or a record is wrong.
    """
    spoken = next((known for known in LANGUAGES if known == language), None)
    if spoken is None:
        raise unknown("language", language, LANGUAGES)
    if is_table(name):
        return custom.read(Path(name), spoken, read_options)
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    benchmark = BENCHMARKS[name]
    if spoken not in benchmark.languages:
        raise InputError(f"{name} has no questions in {spoken!r}; it has {', '.join(benchmark.languages)}")
    splits = benchmark.splits(spoken)
    if split not in splits:
        raise InputError(f"{name} has no split {split!r} in {spoken!r}; it has {', '.join(splits)}")
    return benchmark.load(data, spoken, split)
