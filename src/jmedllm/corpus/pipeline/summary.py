"""The summary of a corpus: files read, text removed, and text left."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from jmedllm.corpus.pipeline.counts import Counts
from jmedllm.corpus.pipeline.process_part import WorkDir
from jmedllm.corpus.pipeline.survey import Survey
from jmedllm.corpus.readers.inputs import Skipped, ending, file_of
from jmedllm.files import read_json

EXAMPLES = 20
"""Examples of each kind of removal."""

READ_ERRORS = 1000
"""Files and lines that could not be read and are named; all are counted."""

Status = Literal["read", "partly read", "not read"]


class InputFile(TypedDict):
    """Status of one input file.

    Attributes:
        file: its path as given; a hidden folder ends with a slash and stands for the files in it.
        files: number of files it stands for, 1 for a file.
        sha256: hash of its content; None if it was not opened.
        documents: documents read from it.
        characters: characters of these, before cleaning.
        kept: documents of the corpus that come from it. Duplicates and documents that cleaning emptied are not kept,
            and a document that a benchmark question was cut out of may be kept as several.
        errors: lines, or groups of pages, that could not be read.
        reason: why it was not read, or the first error in it.
        duplicate_of: the file with the same content that was read instead.
    """

    file: str
    status: Status
    files: int
    sha256: str | None
    documents: int
    characters: int
    kept: int
    errors: int
    reason: str | None
    duplicate_of: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The content of corpus.json.

    Attributes:
        input_hash: hash of everything that the corpus depends on.
        version: of jmedllm.
        personal_data_removed: whether every input was de-identified by jmedllm.
        deidentification: how, each way once; None if an input was not.
        inputs: every file below the inputs.
        tokenizer: the file that tokens were counted with; None if they were not counted.
        questions: number of benchmark questions that were searched for, by benchmark and language.
        files: SHA-256 of each document file, in order.
        counts: the output of each step, in rows of step, source, language, licence, documents, characters, tokens.
        read_errors: number of files, lines and groups of pages that could not be read.
        read_error_examples: the first of them, each with the reason.
        cleaning: for each rule the pieces it removed or changed, their characters, and examples with places.
        emptied: documents that cleaning left without text.
        duplicates: documents removed as the same as an earlier one ("exact") or nearly the same ("near").
        duplicate_examples: the first of them, each with the document it repeats and their similarity.
        contaminated: for each benchmark the benchmark items that were found and the number of places.
        contamination_examples: the first places, each with the item and the words that were found.
    """

    input_hash: str
    version: str
    personal_data_removed: bool
    deidentification: list[dict[str, Any]] | None
    inputs: list[InputFile]
    tokenizer: str | None
    questions: dict[str, int]
    files: dict[str, str]
    counts: list[list[Any]]
    read_errors: int
    read_error_examples: list[list[str]]
    cleaning: dict[str, dict[str, Any]]
    emptied: int
    duplicates: dict[str, int]
    duplicate_examples: list[list[Any]]
    contaminated: dict[str, dict[str, int]]
    contamination_examples: list[list[str]]

    @property
    def step_counts(self) -> Counts:
        """The counts, ready to be summed."""
        counts = Counts()
        counts.merge(self.counts)
        return counts

    def file_counts(self) -> dict[Status, int]:
        """Return the number of files of each status."""
        found: dict[Status, int] = {"read": 0, "partly read": 0, "not read": 0}
        for each in self.inputs:
            found[each["status"]] += each["files"]
        return found

    def reasons(self) -> dict[str, int]:
        """Return how many files were not read, or only partly read, for each "suffix: reason"; most common first."""
        found = Counter[str]()
        for each in self.inputs:
            if each["reason"]:
                name = "" if each["file"].endswith("/") else f"{ending(each['file'])}: "
                found[f"{name}{each['reason']}"] += each["files"]
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def gather(work_dir: WorkDir, surveyed: Survey) -> dict[str, Any]:
    """Sum up the reports of finished parts, as fields of a `Summary`."""
    counts, errors, emptied = Counts(), list[list[str]](), 0
    cleaning, items = dict[str, dict[str, Any]](), dict[str, set[str]]()
    duplicates, places = Counter({"exact": 0, "near": 0}), Counter[str]()
    repeated, contamination = list[list[Any]](), list[list[str]]()
    read, kept = dict[str, list[int]](), Counter[str]()
    for number in range(len(surveyed.parts)):
        first = read_json(work_dir.file(number, "cleaned.json"))
        last = read_json(work_dir.file(number, "finished.json"))
        counts.merge([*first["counts"], *last["counts"]])
        errors += first["errors"]
        emptied += len(first["emptied"])
        for file, amounts in first["read"].items():
            read[file] = [sum(pair) for pair in zip(read.get(file, [0, 0]), amounts, strict=True)]
        kept.update(last["kept"])
        for rule, done in first["cleaning"].items():
            whole = cleaning.setdefault(rule, {"pieces": 0, "characters": 0, "examples": []})
            whole["pieces"] += done["pieces"]
            whole["characters"] += done["characters"]
            whole["examples"] = (whole["examples"] + done["examples"])[:EXAMPLES]
        for each in read_json(work_dir.file(number, "duplicates.json")).values():
            duplicates["exact" if each["similarity"] == 1 else "near"] += 1
            repeated.append([each["where"], each["duplicate_of"], each["similarity"]])
        for stretch in last["contaminated"]:
            for hit in stretch["questions"]:
                places[hit["benchmark"]] += 1
                items.setdefault(hit["benchmark"], set()).add(hit["question"])
                contamination.append([stretch["where"], f"{hit['benchmark']} {hit['question']}", hit["text"]])
    return {
        "inputs": _input_files(surveyed, read, kept, errors),
        "counts": counts.rows(),
        "read_errors": len(errors),
        "read_error_examples": errors[:READ_ERRORS],
        "cleaning": dict(sorted(cleaning.items())),
        "emptied": emptied,
        "duplicates": dict(duplicates),
        "duplicate_examples": repeated[:EXAMPLES],
        "contaminated": {name: {"items": len(items[name]), "places": places[name]} for name in sorted(items)},
        "contamination_examples": contamination[:EXAMPLES],
    }


def _input_files(
    surveyed: Survey, read: Mapping[str, list[int]], kept: Mapping[str, int], errors: Sequence[list[str]]
) -> list[InputFile]:
    """Return every file below the inputs, by name."""
    reasons: dict[str, list[str]] = {}
    for where, reason in errors:
        reasons.setdefault(file_of(where), []).append(reason)
    files = [_opened(file, sha256, read.get(file, [0, 0]), kept.get(file, 0), reasons.get(file, []))
             for file, sha256 in surveyed.hashes.items()]  # fmt: skip
    return sorted([*files, *map(_unopened, surveyed.skipped)], key=lambda each: each["file"])


def _opened(file: str, sha256: str, amounts: Sequence[int], kept: int, reasons: Sequence[str]) -> InputFile:
    documents, characters = amounts
    status: Status = "read" if not reasons else "partly read" if documents else "not read"
    return InputFile(
        file=file,
        status=status,
        files=1,
        sha256=sha256,
        documents=documents,
        characters=characters,
        kept=kept,
        errors=len(reasons),
        reason=reasons[0] if reasons else None,
        duplicate_of=None,
    )


def _unopened(skipped: Skipped) -> InputFile:
    return InputFile(
        file=skipped.where,
        status="not read",
        files=skipped.files,
        sha256=None,
        documents=0,
        characters=0,
        kept=0,
        errors=0,
        reason=skipped.reason,
        duplicate_of=skipped.duplicate_of,
    )
