"""The registry of benchmarks, one file each, and the loader of their questions."""

from collections.abc import Mapping
from pathlib import Path

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.benchmarks import (
    custom,
    demo,
    igakuqa,
    igakuqa119,
    jmed_llm,
    jmle2026,
    jmle_cases,
    jmmlu,
    medmcqa,
    medqa,
    medrect,
    mmlu,
    yakugakuqa,
)
from jmedllm.evaluation.benchmarks.benchmark import Benchmark
from jmedllm.evaluation.benchmarks.file_formats import is_custom_file
from jmedllm.evaluation.benchmarks.rows import MissingFileError
from jmedllm.evaluation.question import LANGUAGES, Question
from jmedllm.plugins import plugin_names, plugins

__all__ = ["BENCHMARKS", "Benchmark", "load"]

BENCHMARKS: dict[str, Benchmark] = {
    "igakuqa": igakuqa.BENCHMARK,
    "medqa": medqa.MEDQA,
    "medqa-5": medqa.MEDQA_5,
    "medmcqa": medmcqa.BENCHMARK,
    "mmlu": mmlu.BENCHMARK,
    "jmmlu": jmmlu.BENCHMARK,
    "yakugakuqa": yakugakuqa.BENCHMARK,
    "jmle2026": jmle2026.BENCHMARK,
    "igakuqa119": igakuqa119.BENCHMARK,
    "jmle-cases": jmle_cases.BENCHMARK,
    "medrect": medrect.BENCHMARK,
    "crade": jmed_llm.CRADE,
    "rrtnm": jmed_llm.RRTNM,
    "smdis": jmed_llm.SMDIS,
    "mrner-disease": jmed_llm.MRNER_DISEASE,
    "mrner-medicine": jmed_llm.MRNER_MEDICINE,
    "demo": demo.DEMO,
    "demo-blanked": demo.BLANKED,
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
        name: a registered benchmark, or the path of a file of custom questions (see
            `file_formats.is_custom_file`), for which the split is ignored.
        data: the data directory that `jmedllm data get` fills.
        read_options: how a user's own file is read.

    Raises:
        InputError: the benchmark, language or split is unknown, files are missing (the message names the command
            that fetches them), or a record is invalid.
    """
    known = next((each for each in LANGUAGES if each == language), None)
    if known is None:
        raise unknown("language", language, LANGUAGES)
    if is_custom_file(name):
        return custom.read(Path(name), known, read_options)
    if name not in BENCHMARKS:
        raise unknown("benchmark", name, BENCHMARKS)
    benchmark = BENCHMARKS[name]
    if known not in benchmark.languages:
        raise InputError(f"{name} has no questions in {known!r}; it has {', '.join(benchmark.languages)}")
    splits = benchmark.splits(known)
    if split not in splits:
        having = [each.name for each in BENCHMARKS.values() if known in each.languages and split in each.splits(known)]
        others = f"; benchmarks with {split} in {known!r}: {', '.join(having)}" if having else ""
        raise InputError(f"{name} has no split {split!r} in {known!r}; it has {', '.join(splits)}{others}")
    try:
        return benchmark.load(data, known, split)
    except MissingFileError as error:
        if name in plugin_names("benchmarks"):  # `jmedllm data get` fetches only built-in ones
            raise MissingFileError(error.path, "get it as the package of this benchmark describes") from None
        raise


def _require_own_names(benchmarks: Mapping[str, Benchmark]) -> None:
    for name, benchmark in benchmarks.items():
        if benchmark.name != name:
            raise InputError(f"benchmark {benchmark.name} is registered as {name}; use the same name for both")


BENCHMARKS |= plugins("benchmarks", BENCHMARKS, Benchmark)
_require_own_names(BENCHMARKS)
