"""The report of a de-identification: counts by kind, file and confidence, and never a piece of the text."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from jmedllm.corpus.deidentify.spans import LABELS
from jmedllm.markdown import bullets, table

REPORT = "deidentification.md"

_LEVELS = ("certain", "likely", "possible")

WARNING = "No program finds every identifier. Check a sample by hand before you share this text."


@dataclass(frozen=True, slots=True, kw_only=True)
class DeidentificationReport:
    """What was done to which files. Identifiers in the names of files are masked.

    Attributes:
        input_hash: hash of all that decides the output, except the key.
        summary: version, replacement, whether the key was kept, number of lists of known people (not their names),
            SHA-256 of the model and of the lists that come with jmedllm, version of the dictionary, documents,
            characters, files and lines that were not read, and number of identifiers by kind.
        patients: number of documents by what says who the patient is: "field", "number in the text" or "none".
        rare_facts: see `RareFacts.counts`.
        counts: rows of file, kind, confidence, rule and number.
        inputs: SHA-256 of each input file.
        skipped: files and lines that were not read, each with the reason. Their text is not in the output.
        files: SHA-256 of each file of documents.
    """

    input_hash: str
    summary: dict[str, Any]
    patients: dict[str, int]
    rare_facts: dict[str, int]
    counts: list[list[Any]]
    inputs: dict[str, str]
    skipped: list[list[str]]
    files: dict[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return asdict(self)

    @property
    def documents(self) -> int:
        """Number of documents."""
        count: int = self.summary["documents"]
        return count

    @property
    def characters(self) -> int:
        """Number of characters of the documents as they were read."""
        count: int = self.summary["characters"]
        return count

    def by_label(self) -> dict[str, int]:
        """Return the number of identifiers by kind, in the order of the kinds."""
        return by_label(self.counts)


def by_label(counts: list[list[Any]]) -> dict[str, int]:
    """Sum up rows of file, kind, confidence, rule and number by kind, in the order of the kinds."""
    found = Counter[str]()
    for _, label, _, _, count in counts:
        found[label] += count
    return {label: found[label] for label in LABELS if found[label]}


def as_markdown(report: DeidentificationReport) -> str:
    """Return the report for people."""
    confidence = Counter[tuple[str, str]]()
    files = Counter[str]()
    for file, label, level, _, count in report.counts:
        confidence[label, level] += count
        files[file] += count
    done = report.summary
    rare = report.rare_facts
    lines = [
        "# De-identification",
        "",
        f"By jmedllm {done['version']}: {report.documents:,} documents, {report.characters:,} characters, "
        f"{sum(files.values()):,} identifiers replaced ({done['replacement']}). {WARNING}",
        "",
        table(
            ("kind", "replaced", *_LEVELS),
            (
                (label, f"{count:,}", *(f"{confidence[label, level]:,}" for level in _LEVELS))
                for label, count in report.by_label().items()
            ),
            ["---", *["---:"] * 4],
        ),
        "",
        f"Rare facts: of {rare['documents']:,} documents that state age, sex and disease, {rare['rare']:,} share them "
        f"and the place with fewer than {rare['k'] - 1} others. The review list names them.",
        "",
        "Documents by what identifies their patient: "
        + ", ".join(f"{name} ({count:,})" for name, count in report.patients.items())
        + ".",
        "",
        table(
            ("file", "replaced", "SHA-256"),
            ((file, f"{files[file]:,}", f"`{hashed}`") for file, hashed in report.inputs.items()),
            ["---", "---:", "---"],
        ),
        "",
        table(("written", "SHA-256"), ((file, f"`{hashed}`") for file, hashed in report.files.items())),
    ]
    if report.skipped:
        not_read = bullets(f"{where}: {reason}" for where, reason in report.skipped)
        lines += ["", "Not read, and not in the output:", "", not_read]
    return "\n".join(lines) + "\n"
