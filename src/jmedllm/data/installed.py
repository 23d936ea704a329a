"""Find test questions on this disk."""

from collections.abc import Iterator
from pathlib import Path

from jmedllm.data.catalogue import SOURCES
from jmedllm.evaluation.benchmarks import BENCHMARKS, Benchmark, load
from jmedllm.evaluation.question import Question

TEST = "test"


def installed_tests(data: Path) -> Iterator[tuple[str, str]]:
    """Yield benchmark and language of every test split that can be read, without synthetic benchmarks."""
    for benchmark in BENCHMARKS.values():
        for language, source in benchmark.sources.items():
            if not benchmark.synthetic and TEST in benchmark.splits(language) and is_installed(source, data):
                yield benchmark.name, language


def outside_benchmarks() -> list[Benchmark]:
    """Return the benchmarks of other packages whose files are not in the catalogue."""
    return [
        each
        for each in BENCHMARKS.values()
        if any(source is not None and source not in SOURCES for source in each.sources.values())
    ]


def is_installed(source: str | None, data: Path) -> bool:
    """Return whether files of a benchmark's source exist, at least in part."""
    if source is None:
        return True
    if source not in SOURCES:  # of a benchmark from another package
        return (data / source).is_dir()
    return any((data / file.path).is_file() for file in SOURCES[source].files)


def test_questions(data: Path) -> Iterator[Question]:
    """Yield all test questions in the data directory.

    Raises:
        InputError: a benchmark is incomplete, or a record is invalid.
    """
    for benchmark, language in installed_tests(data):
        yield from load(benchmark, language, data, TEST)
