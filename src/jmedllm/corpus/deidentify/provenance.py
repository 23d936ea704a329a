"""Whether the text of files was de-identified by jmedllm, and how: by the reports beside them and their hashes."""

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from jmedllm.corpus.readers.inputs import DEIDENTIFIED, NAME
from jmedllm.errors import InputError
from jmedllm.files import read_json

Deidentification = dict[str, Any]
"""A de-identification without its files, as plain values: see `DeidentificationReport.summary`."""


def deidentifications(hashes: Mapping[str, str]) -> list[Deidentification] | None:
    """Return how the text of some files was de-identified, each way once; None if that of one of them was not.

    A file counts if a report beside it, of a de-identification or of a corpus built from one, has its name and hash.

    Args:
        hashes: SHA-256 of each file, by its path.
    """
    found: list[Deidentification] = []
    for name, hashed in hashes.items():
        done = _of_file(Path(name), hashed)
        if done is None:
            return None
        found += [each for each in done if each not in found]
    return found or None


def require_deidentified(hashes: Mapping[str, str]) -> None:
    """Check that the text of all files was de-identified by jmedllm.

    Raises:
        InputError: that of one was not, or the file has been changed since.
    """
    for name, hashed in hashes.items():
        if _of_file(Path(name), hashed) is None:
            changed = (Path(name).parent / DEIDENTIFIED).is_file()
            raise InputError(
                f"corpus.require_deidentified: {name} "
                + ("is not as `jmedllm corpus deidentify` wrote it" if changed else "was not de-identified")
                + "; add deidentify to the corpus section, or run: jmedllm corpus deidentify"
            )


def _of_file(path: Path, hashed: str) -> list[Deidentification] | None:
    for report in (path.parent / DEIDENTIFIED, path.parent / NAME):
        files, done = _reported(report, report.stat().st_mtime_ns) if report.is_file() else ({}, None)
        if files.get(path.name) == hashed:
            return done
    return None


@lru_cache(maxsize=64)
def _reported(report: Path, written: int) -> tuple[Mapping[str, str], list[Deidentification] | None]:
    """Return the files of a report with their hashes, and how their text was de-identified.

    Args:
        report: the report.
        written: when it was written, so that a later one is read again.
    """
    content = read_json(report)
    if not isinstance(content, dict) or not isinstance(content.get("files"), dict):
        return {}, None
    if report.name == DEIDENTIFIED:
        return content["files"], [content["summary"]] if "summary" in content else None
    return content["files"], content.get("deidentification")


def in_words(done: list[Deidentification] | None) -> str:
    """Return how text was de-identified, in one line without a final period."""
    if not done:
        return "not de-identified"
    counts = Counter[str]()
    for each in done:
        counts.update(each["counts"])
    kinds = ", ".join(f"{label} {count:,}" for label, count in counts.items())
    ways = dict.fromkeys(
        f"by jmedllm {each['version']} ({each['replacement']}"
        + (", key kept" if each["key_kept"] else "")
        + f"; {_lists(each['known_lists'])}; model {each['model'][:12]}, lists {each['lists'][:12]})"
        for each in done
    )
    return f"de-identified {' and '.join(ways)}: {counts.total():,} identifiers replaced" + (
        f" ({kinds})" if kinds else ""
    )


def _lists(count: int) -> str:
    return "no list of known people" if not count else f"{count} list{'s' * (count > 1)} of known people"
