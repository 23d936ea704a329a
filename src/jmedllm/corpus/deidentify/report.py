"""The report of a de-identification: counts by kind, file and confidence, and never a piece of the text."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from jmedllm.corpus.deidentify.spans import LABELS

REPORT = "deidentification.md"

WARNING = "No program finds every identifier. Check a sample by hand before you share this text."


@dataclass(frozen=True, slots=True)
class DeidentificationReport:
    """What was done to which files.

    Attributes:
        replacement: "surrogate" or "mask".
        key_kept: whether the key of the surrogates was kept in a file.
        known_lists: number of lists of known people; not their names.
        counts: rows of file, kind, confidence, rule and number.
        inputs: SHA-256 of each input file.
        skipped: files and lines that were not read, each with the reason. Their text is not in the output.
        files: SHA-256 of each file of documents.
    """

    input_hash: str
    version: str
    replacement: str
    key_kept: bool
    known_lists: int
    documents: int
    characters: int
    counts: list[list[Any]]
    inputs: dict[str, str]
    skipped: list[list[str]]
    files: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)

    def by_label(self) -> dict[str, int]:
        """Return the number of identifiers by kind, in the order of the kinds."""
        found = Counter[str]()
        for _, label, _, _, count in self.counts:
            found[label] += count
        return {label: found[label] for label in LABELS if found[label]}


def as_markdown(report: DeidentificationReport) -> str:
    """Return the report for people."""
    confidence = Counter[tuple[str, str]]()
    files = Counter[str]()
    for file, label, level, _, count in report.counts:
        confidence[label, level] += count
        files[file] += count
    lines = [
        "# De-identification",
        "",
        f"By jmedllm {report.version}: {report.documents:,} documents, {report.characters:,} characters, "
        f"{sum(files.values()):,} identifiers replaced ({report.replacement}). {WARNING}",
        "",
        "| kind | replaced | certain | likely | possible |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {label} | {count:,} | "
            + " | ".join(f"{confidence[label, level]:,}" for level in ("certain", "likely", "possible"))
            + " |"
            for label, count in report.by_label().items()
        ),
        "",
        "| file | replaced |",
        "|---|---:|",
        *(f"| {file} | {count:,} |" for file, count in sorted(files.items())),
    ]
    if report.skipped:
        lines += [
            "",
            "Not read, and not in the output:",
            "",
            *(f"* {where}: {reason}" for where, reason in report.skipped),
        ]
    return "\n".join(lines) + "\n"
