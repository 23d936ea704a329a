"""The embedded demo's questions; they come with the package."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from jmedllm import demo
from jmedllm.exam.benchmarks.benchmark import Benchmark
from jmedllm.exam.question import Language, Question

SOURCES: Mapping[Language, None] = {"ja": None, "en": None}
CENSUS: Mapping[tuple[Language, str], int] = {
    ("ja", "test"): 143,
    ("en", "test"): 143,
    ("ja", "train"): 2288,
    ("en", "train"): 2288,
}


def _read(data: Path, language: Language, split: str, *, blanked: bool) -> list[Question]:
    return demo.questions(split, language, blanked=blanked)


DEMO = Benchmark(
    "demo", "questions on the embedded facts", "Apache-2.0", SOURCES, CENSUS, partial(_read, blanked=False)
)
BLANKED = Benchmark(
    "demo-blanked",
    "control: the same questions without their subject",
    "Apache-2.0",
    SOURCES,
    CENSUS,
    partial(_read, blanked=True),
)
