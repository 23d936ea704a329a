"""The reports of a corpus: corpus.json (all counts), corpus.md (for people) and removed.jsonl (every removal)."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any, get_args

from jmedllm.corpus.deidentify.provenance import in_words
from jmedllm.corpus.pipeline.counts import Amount, BuildStep, Column
from jmedllm.corpus.pipeline.process_part import WorkDir
from jmedllm.corpus.pipeline.summary import InputFile, Summary
from jmedllm.corpus.readers.inputs import NAME
from jmedllm.files import atomic_file, read_json, to_json, write_atomic

BUILD_STEPS: tuple[BuildStep, ...] = get_args(BuildStep)
BY: Mapping[str, Column] = {"language": "language", "source": "source", "licence": "license"}
ARROW = " → "
PERSONAL_DATA = "personal data: nothing has removed it from this text; check it before you train on it or share it"
DEIDENTIFIED_DATA = "personal data: jmedllm de-identified every input; no program finds every identifier"
_EXAMPLES = 10
_MOST_FILES = 100
_MOST_REASONS = 6
_LARGEST = 30
_EXAMPLE_CHARACTERS = 60


def write_reports(work_dir: WorkDir, output: Path, summary: Summary) -> None:
    """Write removed.jsonl, corpus.md and corpus.json, each atomically."""
    with atomic_file(output / "removed.jsonl") as handle:
        for row in chain(_not_read(summary), _removed(work_dir, summary)):
            handle.write((to_json(row) + "\n").encode())
    write_atomic(output / "corpus.md", markdown(summary))
    write_atomic(output / NAME, to_json(asdict(summary), indent=1) + "\n")


def _not_read(summary: Summary) -> Iterator[dict[str, Any]]:
    """Yield the files that were not opened; errors in the others are in the reports of their parts."""
    for each in summary.inputs:
        if each["sha256"] is None:
            other = {"duplicate_of": each["duplicate_of"]} if each["duplicate_of"] else {}
            yield {"step": "read", "reason": each["reason"], "where": each["file"]} | other


def _removed(work_dir: WorkDir, summary: Summary) -> Iterator[dict[str, Any]]:
    """Yield errors, emptied documents, duplicates, benchmark questions, and examples of what the rules removed."""
    for rule, done in summary.cleaning.items():
        for where, text in done["examples"]:
            yield {"step": "clean", "reason": rule, "where": where, "text": text}
    for path in sorted(work_dir.folder.glob("*.cleaned.json")):
        report = read_json(path)
        for where, reason in report["errors"]:
            yield {"step": "read", "reason": reason, "where": where}
        for where in report["emptied"]:
            yield {"step": "clean", "reason": "no text is left", "where": where}
    for path in sorted(work_dir.folder.glob("*.duplicates.json")):
        for each in read_json(path).values():
            yield {"step": "deduplicate", "reason": "repeats another document"} | each
    for path in sorted(work_dir.folder.glob("*.finished.json")):
        for each in read_json(path)["contaminated"]:
            yield {"step": "decontaminate", "reason": "contains a benchmark question"} | each


def markdown(summary: Summary) -> str:
    """Return the report for people."""
    tokens = summary.tokenizer is not None
    counts = summary.step_counts
    cleaning = [
        f"| {rule} | {done['pieces']:,} | {done['characters']:,} | {_example(done['examples'])} |"
        for rule, done in summary.cleaning.items()
    ]
    searched = ", ".join(f"{name} ({count:,})" for name, count in summary.questions.items())
    repeated = [
        f"- {where} repeats {other}" + f" to {similarity:.0%}" * (similarity < 1)
        for where, other, similarity in summary.duplicate_examples[:_EXAMPLES]
    ]
    contaminated = [
        f"- {name}: items {each['items']:,}, places {each['places']:,}" for name, each in summary.contaminated.items()
    ]
    found = [
        f"- {where} contains {question}: `{_short(text)}`"
        for where, question, text in summary.contamination_examples[:_EXAMPLES]
    ]
    parts = [
        ["# Corpus", "", f"Built by jmedllm {summary.version}. {_sentence(_personal_data(summary))}"],
        ["Text after each step:", "", *_table("", counts.by(), tokens)],
        [f"In each cell below: {ARROW.join(BUILD_STEPS)}."],
        *(
            [f"## By {heading}", "", *_table(heading, counts.by(column), tokens)]
            for heading, column in BY.items()
        ),
        *_files(summary),
        ["## Cleaned", "", "| rule | pieces | characters | for example |", "|---|---:|---:|---|", *cleaning],
        [f"Documents without text after cleaning: {summary.emptied:,}."],
        ["## Duplicates", "", f"{summary.duplicates['exact']:,} documents repeat an earlier one exactly and"
         f" {summary.duplicates['near']:,} nearly. They were removed.", *repeated],
        ["## Benchmark questions", "", f"Searched for: {searched}." if searched else "No benchmark is installed, so no"
         " benchmark question was searched for.", *contaminated, *found],
        ["`removed.jsonl` has every removal with its text; `corpus.json` has every input file and all hashes."],
    ]  # fmt: skip
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _files(summary: Summary) -> Iterator[list[str]]:
    """Yield the status of the files, the most common reasons, and the first files that were not read in full."""
    head = "| file | status | documents | characters | kept | reason |"
    incomplete = [each for each in summary.inputs if each["status"] != "read"]
    yield ["## Files", "", f"{file_counts(summary)}.", *(f"- {n:,} × {why}" for why, n in summary.reasons().items())]
    if incomplete:
        yield [head, "|---|---|---:|---:|---:|---|", *(_file_row(each) for each in incomplete[:_MOST_FILES])]
    if len(incomplete) > _MOST_FILES:
        yield [f"{len(incomplete) - _MOST_FILES:,} more are in corpus.json."]
    if summary.read_errors:
        examples = summary.read_error_examples[:_EXAMPLES]
        yield [
            f"{summary.read_errors:,} files, lines or groups of pages could not be read:",
            *(f"- {where}: {reason}" for where, reason in examples),
        ]


def _file_row(each: InputFile) -> str:
    reason = f"{each['reason']}" + (f": {each['duplicate_of']}" if each["duplicate_of"] else "")
    cells = (each["file"], each["status"], f"{each['documents']:,}", f"{each['characters']:,}", f"{each['kept']:,}")
    return f"| {' | '.join(map(_plain, (*cells, reason)))} |"


def file_counts(summary: Summary) -> str:
    """Return how many files were read, in words."""
    return ", ".join(f"{count:,} {status}" for status, count in summary.file_counts().items() if count)


def terminal_summary(summary: Summary) -> str:
    """Return the counts of each step and the status of the files, for the terminal."""
    steps = summary.step_counts.by().get((), {})
    amounts = [steps.get(step, Amount()) for step in BUILD_STEPS]
    tokens = [f", {amount.tokens:,} tokens" if summary.tokenizer else "" for amount in amounts]
    found = sum(each["items"] for each in summary.contaminated.values())
    notes = (
        f"{summary.read_errors:,} read errors",
        f"{sum(done['pieces'] for done in summary.cleaning.values()):,} pieces changed",
        f"{summary.duplicates['exact']:,} exact, {summary.duplicates['near']:,} near duplicates",
        f"{found:,} items of {len(summary.questions)} benchmarks"
        if summary.questions
        else "no benchmark is installed",
    )
    lines = [
        f"{step:<13} {amount.documents:>9,} documents {amount.characters:>13,} characters{count}, {note}"
        for step, amount, count, note in zip(BUILD_STEPS, amounts, tokens, notes, strict=True)
    ]
    reasons = summary.reasons()
    lines.append(f"{'files':<13} {file_counts(summary)}")
    lines += [f"{'':<13} {count:>9,} × {reason}" for reason, count in islice(reasons.items(), _MOST_REASONS)]
    if len(reasons) > _MOST_REASONS:
        lines.append(f"{'':<13} {len(reasons) - _MOST_REASONS:,} more reasons are in corpus.md")
    return "\n".join(lines)


def _table(heading: str, rows: Mapping[tuple[str, ...], Mapping[BuildStep, Amount]], tokens: bool) -> Iterator[str]:
    """Yield documents, characters and tokens after each step, one row for each name."""
    units = ("documents", "characters", "tokens")[: 2 + tokens]
    if not heading:
        yield f"| | {' | '.join(units)} |"
        yield "|---|" + "---:|" * len(units)
        for steps in rows.values():
            for step in BUILD_STEPS:
                yield f"| {step} | {' | '.join(_cells(steps.get(step, Amount()), units))} |"
        return
    yield f"| {heading} | {' | '.join(units)} |"
    yield "|---|" + "---:|" * len(units)
    for (name,), steps in list(rows.items())[:_LARGEST]:
        after = [_cells(steps.get(step, Amount()), units) for step in BUILD_STEPS]
        yield f"| {_plain(name)} | {' | '.join(map(ARROW.join, zip(*after, strict=True)))} |"
    if len(rows) > _LARGEST:
        yield f"| {len(rows) - _LARGEST:,} more are in corpus.json |" + " |" * len(units)


def _cells(amount: Amount, units: tuple[str, ...]) -> list[str]:
    return [f"{getattr(amount, unit):,}" for unit in units]


def _personal_data(summary: Summary) -> str:
    if summary.deidentification is None:
        return PERSONAL_DATA
    return f"{DEIDENTIFIED_DATA}. The text was {in_words(summary.deidentification)}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _example(examples: list[list[str]]) -> str:
    return f"`{_short(examples[0][1])}`" if examples else ""


def _short(text: str) -> str:
    return _plain(text)[:_EXAMPLE_CHARACTERS]


def _plain(text: str) -> str:
    """Return the text on one line, without signs that would end a cell of a table."""
    return " ".join(text.replace("|", "¦").replace("`", "'").split())
