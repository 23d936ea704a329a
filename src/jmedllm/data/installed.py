"""The exam items that lie on this disk."""

from collections.abc import Iterator
from pathlib import Path

from jmedllm.data.catalogue import SOURCES
from jmedllm.evaluation.benchmarks import BENCHMARKS, load
from jmedllm.evaluation.question import Question

TEST = "test"


def installed_tests(data: Path) -> Iterator[tuple[str, str]]:
    """Benchmark and language of every test split whose files lie in the data directory.

    What comes with the package, the demo's exam on the demo's corpus, is no exam of anything else.
    """
    for benchmark in BENCHMARKS.values():
        for language, name in benchmark.sources.items():
            if name is None or TEST not in benchmark.splits(language):
                continue
            if any((data / file.path).is_file() for file in SOURCES[name].files):
                yield benchmark.name, language


def test_questions(data: Path) -> Iterator[Question]:
    """All test questions that lie in the data directory.

    Raises:
        InputError: a benchmark is there in part, or a record is wrong.
    """
    for benchmark, language in installed_tests(data):
        yield from load(benchmark, language, data, TEST)
