"""The card of a benchmark."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jmedllm.evaluation.question import Language, Question

Reader = Callable[[Path, Language, str], list[Question]]
"""(data directory, language, split) to questions, in the order of the files."""


@dataclass(frozen=True)
class Benchmark:
    """A named list of Questions.

    Attributes:
        sources: for each language, the entry of the data catalogue that holds its files; None where they
            come with the package.
        expected_counts: for each (language, split) there is, how many questions it must hold; None where nobody
            has counted them for us.
    """

    name: str
    title: str
    licence: str
    sources: Mapping[Language, str | None]
    expected_counts: Mapping[tuple[Language, str], int | None]
    load: Reader

    @property
    def languages(self) -> tuple[Language, ...]:
        """Languages the benchmark can be sat in."""
        return tuple(self.sources)

    def splits(self, language: Language) -> tuple[str, ...]:
        """Splits there are in a language."""
        return tuple(split for spoken, split in self.expected_counts if spoken == language)
