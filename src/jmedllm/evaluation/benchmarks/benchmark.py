"""The type of a benchmark. It imports no benchmark, so that each of them can import it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jmedllm.evaluation.question import Language, Question

Loader = Callable[[Path, Language, str], list[Question]]
"""(data directory, language, split) → questions, in the order of the files."""


@dataclass(frozen=True, slots=True)
class PassMarks:
    """Points that a candidate needs in each part of one year's exam."""

    year: int
    required: int
    general: int


@dataclass(frozen=True)
class Benchmark:
    """A registered set of questions.

    Attributes:
        name: key in `BENCHMARKS`, and the `benchmark` of its questions.
        sources: language → source in the data catalogue, or folder below the data directory, that has its files;
            None if they come with the package.
        expected_counts: (language, split) → number of questions; None if it is unknown.
        load: reads the questions of one language and split.
        legacy_subjects: subjects that the selection `legacy` keeps; empty if it keeps all.
        legacy_choices: number of choices that a question must have for the selection `legacy`; None for any number.
        pass_marks: number of an exam, the first three characters of its questions' ids → points needed to pass it; the
            scorer `official` applies to these exams.
        synthetic: whether its facts were made up for the demo, so that no real corpus is checked against it.
    """

    name: str
    title: str
    licence: str
    sources: Mapping[Language, str | None]
    expected_counts: Mapping[tuple[Language, str], int | None]
    load: Loader
    legacy_subjects: frozenset[str] = frozenset()
    legacy_choices: int | None = None
    pass_marks: Mapping[str, PassMarks] = field(default_factory=dict)
    synthetic: bool = False

    @property
    def languages(self) -> tuple[Language, ...]:
        """Languages of its questions."""
        return tuple(self.sources)

    def splits(self, language: Language) -> tuple[str, ...]:
        """Splits that exist in a language."""
        return tuple(split for known, split in self.expected_counts if known == language)
