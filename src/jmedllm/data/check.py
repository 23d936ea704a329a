"""Check files on disk: their checksums, and the number of questions that benchmarks read from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jmedllm.data.catalogue import File, Source, find
from jmedllm.data.installed import outside_benchmarks
from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, load
from jmedllm.evaluation.question import Language
from jmedllm.files import hash_file

Status = Literal["ok", "wrong", "missing", "not verified"]
"""`not verified`: the file exists, but the catalogue has no checksum or count for it."""


@dataclass(frozen=True)
class CheckResult:
    """The check of a file, or of the number of questions of a benchmark in one language and split."""

    what: str
    expected: str
    found: str
    status: Status


def check(name: str, data: Path) -> list[CheckResult]:
    """Check a source of the catalogue: first its files, then the number of questions; or the number of questions of a
    benchmark of another package.

    Raises:
        InputError: the source is unknown. A wrong or missing file is a result, not an error.
    """
    if outside := next((each for each in outside_benchmarks() if each.name == name), None):
        return [_items(name, *part, count, data) for part, count in outside.expected_counts.items()]
    source = find(name)
    return [
        *(_file(file, data / file.path) for file in source.files),
        *(_items(*part, data) for part in expected_counts(source)),
    ]


def _file(file: File, path: Path) -> CheckResult:
    expected = f"sha256 {file.sha256}" if file.sha256 else "no checksum known"
    if not path.is_file():
        return CheckResult(file.path, expected, "no such file", "missing")
    found = hash_file(path)
    status: Status = "not verified" if file.sha256 is None else "ok" if found == file.sha256 else "wrong"
    return CheckResult(file.path, expected, f"sha256 {found}", status)


def expected_counts(source: Source) -> Iterator[tuple[str, Language, str, int | None]]:
    """Yield (benchmark, language, split, number of questions or None if unknown) of what is read from a source."""
    for benchmark in BENCHMARKS.values():
        for (language, split), count in benchmark.expected_counts.items():
            if benchmark.sources[language] == source.name:
                yield benchmark.name, language, split, count


def _items(name: str, language: str, split: str, count: int | None, data: Path) -> CheckResult:
    what = f"{name} {language} {split}"
    expected = "no count known" if count is None else f"{count} items"
    try:
        found = len(load(name, language, data, split))
    except InputError as error:
        return CheckResult(what, expected, str(error), "wrong")
    status: Status = "not verified" if count is None else "ok" if found == count else "wrong"
    return CheckResult(what, expected, f"{found} items", status)
