"""The type of a benchmark. It imports no benchmark, so that each of them can import it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from jmedllm.evaluation.question import Language, Question

Loader = Callable[[Path, Language, str], list[Question]]
"""(data directory, language, split) → questions, in the order of the files."""


Agreement = Literal["kappa", "linear_weighted_kappa"]
"""Cohen's kappa, with all disagreements alike or weighted by their distance."""


@dataclass(frozen=True, slots=True)
class PassMarks:
    """Points that a candidate needs in each part of one year's exam.

    Attributes:
        required: None if they are not known.
        general: None if they are not known.
        prohibited_known: whether the questions say which choices are prohibited. The ministry does not publish them.
    """

    year: int
    required: int | None
    general: int | None
    prohibited_known: bool = True


@dataclass(frozen=True)
class Benchmark:
    """A registered set of questions.

    Attributes:
        name: key in `BENCHMARKS`, and the `benchmark` of its questions.
        sources: language → source in the data catalogue, or folder below the data directory, that has its files;
            None if they come with the package.
        expected_counts: (language, split) → number of questions; None if it is unknown.
        load: reads the questions of one language and split.
        default_selection: selection of its questions unless another is given.
        scorers: names of the scorers of its published metrics, if these are not the usual ones.
        legacy_subjects: subjects that the selection `legacy` keeps; empty if it keeps all.
        legacy_choices: number of choices that a question must have for the selection `legacy`; None for any number.
        pass_marks: number of an exam, the first three characters of its questions' ids → points needed to pass it; the
            scorer `official` applies to these exams.
        agreement: published measure of agreement for classification; the scorer `kappa` computes it. None if there is
            none.
        notes: what reports must say about its questions.
        synthetic: whether its facts were made up for the demo, so that no real corpus is checked against it.
    """

    name: str
    title: str
    licence: str
    sources: Mapping[Language, str | None]
    expected_counts: Mapping[tuple[Language, str], int | None]
    load: Loader
    default_selection: str = "legacy"
    scorers: tuple[str, ...] = ()
    legacy_subjects: frozenset[str] = frozenset()
    legacy_choices: int | None = None
    pass_marks: Mapping[str, PassMarks] = field(default_factory=dict)
    agreement: Agreement | None = None
    notes: tuple[str, ...] = ()
    synthetic: bool = False

    @property
    def languages(self) -> tuple[Language, ...]:
        """Languages of its questions."""
        return tuple(self.sources)

    def splits(self, language: Language) -> tuple[str, ...]:
        """Splits that exist in a language."""
        return tuple(split for known, split in self.expected_counts if known == language)
