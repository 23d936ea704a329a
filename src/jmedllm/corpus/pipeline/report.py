"""The files that tell of a corpus: corpus.json and corpus.md in numbers, removed.jsonl piece by piece."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from jmedllm.corpus.pipeline.counts import Amount, Column, Step
from jmedllm.corpus.pipeline.steps import WorkDir
from jmedllm.corpus.pipeline.summary import Summary
from jmedllm.corpus.readers.inputs import NAME, Unread
from jmedllm.files import atomic_file, read_json, to_json, write_atomic

STEPS: tuple[Step, ...] = get_args(Step)
BY: Mapping[str, Column] = {"language": "language", "source": "source", "licence": "license"}
ARROW = " → "
_TOLD = 10
_LARGEST = 30
_EXAMPLE_CHARACTERS = 60


def write_reports(workshop: WorkDir, output: Path, summary: Summary, skipped: Sequence[Unread]) -> None:
    """Write removed.jsonl, corpus.md and corpus.json, each whole or not at all.

    Args:
        skipped: files below the inputs that were not read.
    """
    with atomic_file(output / "removed.jsonl") as handle:
        for row in chain(_not_read(skipped), _removed(workshop, summary)):
            handle.write((to_json(row) + "\n").encode())
    write_atomic(output / "corpus.md", markdown(summary, skipped))
    write_atomic(output / NAME, to_json(asdict(summary), indent=1) + "\n")


def _not_read(skipped: Sequence[Unread]) -> Iterator[dict[str, Any]]:
    for each in skipped:
        yield {"step": "read", "reason": each.reason, "where": each.where}


def _removed(workshop: WorkDir, summary: Summary) -> Iterator[dict[str, Any]]:
    """All that was not read, repeats a document or gives a question away, and examples of what rules removed."""
    for rule, done in summary.cleaning.items():
        for where, text in done["examples"]:
            yield {"step": "clean", "reason": rule, "where": where, "text": text}
    for path in sorted(workshop.folder.glob("*.cleaned.json")):
        report = read_json(path)
        for where, reason in report["unread"]:
            yield {"step": "read", "reason": reason, "where": where}
        for where in report["emptied"]:
            yield {"step": "clean", "reason": "no text is left", "where": where}
    for path in sorted(workshop.folder.glob("*.duplicates.json")):
        for each in read_json(path).values():
            yield {"step": "deduplicate", "reason": "repeats another document"} | each
    for path in sorted(workshop.folder.glob("*.finished.json")):
        for each in read_json(path)["leaked"]:
            yield {"step": "decontaminate", "reason": "gives an exam question away"} | each


def markdown(summary: Summary, skipped: Sequence[Unread]) -> str:
    """The report for people."""
    kinds = [f"- {count:,} × {what}" for what, count in summary.skipped.items()]
    names = [f"- {each.where}: {each.reason}" for each in skipped]
    tokens = summary.tokenizer is not None
    tally = summary.tally
    unread = [f"- {where}: {reason}" for where, reason in summary.unread_named[:_TOLD]]
    cleaning = [
        f"| {rule} | {done['pieces']:,} | {done['characters']:,} | {_example(done['examples'])} |"
        for rule, done in summary.cleaning.items()
    ]
    searched = ", ".join(f"{name} ({count:,})" for name, count in summary.questions.items())
    repeated = [
        f"- {where} repeats {of}" + f" to {similarity:.0%}" * (similarity < 1)
        for where, of, similarity in summary.duplicates_named[:_TOLD]
    ]
    leaked = [f"- {name}: items {each['items']:,}, places {each['places']:,}" for name, each in summary.leaked.items()]
    given_away = [
        f"- {where} gives away {question}: `{_short(text)}`" for where, question, text in summary.leaked_named[:_TOLD]
    ]
    parts = [
        ["# Corpus", "", f"{len(summary.inputs):,} files, read by jmedllm {summary.version}."],
        ["What is left behind each step:", "", *_table("", tally.by(), tokens)],
        [f"In each cell below: {ARROW.join(STEPS)}."],
        *(
            [f"## By {heading}", "", *_table(heading, tally.by(column), tokens)]
            for heading, column in BY.items()
        ),
        ["## Not read", "", f"{sum(summary.skipped.values()):,} files below the inputs were not read.", *kinds],
        *([names] if names else []),
        [f"{summary.unread:,} files or lines could not be read.", *unread],
        ["## Cleaned", "", "| rule | pieces | characters | for example |", "|---|---:|---:|---|", *cleaning],
        [f"Documents of which nothing was left: {summary.emptied:,}."],
        ["## Duplicates", "", f"{summary.duplicates['exact']:,} documents repeat an earlier one,"
         f" {summary.duplicates['near']:,} nearly so; they are left out.", *repeated],
        ["## Exam questions", "", f"Searched for: {searched}." if searched else "No benchmark is installed: the"
         " corpus was searched for no question.", *leaked, *given_away],
        ["Places, texts and questions are in removed.jsonl, hashes of all files in corpus.json."],
    ]  # fmt: skip
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def in_words(summary: Summary) -> str:
    """One line a step, for the terminal."""
    steps = summary.tally.by().get((), {})
    amounts = [steps.get(step, Amount()) for step in STEPS]
    tokens = [f", {amount.tokens:,} tokens" if summary.tokenizer else "" for amount in amounts]
    leaked = sum(each["items"] for each in summary.leaked.values())
    exams = f"{leaked:,} items of {len(summary.questions)} exams cut out"
    notes = (
        f"{len(summary.inputs):,} files, {summary.unread:,} files or lines not read",
        f"{sum(done['pieces'] for done in summary.cleaning.values()):,} pieces",
        f"{summary.duplicates['exact']:,} repeated, {summary.duplicates['near']:,} nearly",
        exams if summary.questions else "no exam is installed, none was searched for",
    )
    lines = [
        f"{step:<14} {amount.documents:>9,} documents {amount.characters:>13,} characters{count}  ({note})"
        for step, amount, count, note in zip(STEPS, amounts, tokens, notes, strict=True)
    ]
    return "\n".join((*lines, *not_read(summary)))


def not_read(summary: Summary) -> Iterator[str]:
    """What was left out before anything was read, by kind, for the terminal."""
    if summary.skipped:
        yield f"not read       {sum(summary.skipped.values()):>9,} files, named in corpus.md:"
        yield from (f"{'':<14} {count:>9,} × {what}" for what, count in summary.skipped.items())


def _table(heading: str, rows: Mapping[tuple[str, ...], Mapping[Step, Amount]], tokens: bool) -> Iterator[str]:
    """Documents, characters and tokens behind each step, one row for each name."""
    units = ("documents", "characters", "tokens")[: 2 + tokens]
    if not heading:
        yield f"| | {' | '.join(units)} |"
        yield "|---|" + "---:|" * len(units)
        for steps in rows.values():
            for step in STEPS:
                yield f"| {step} | {' | '.join(_cells(steps.get(step, Amount()), units))} |"
        return
    yield f"| {heading} | {' | '.join(units)} |"
    yield "|---|" + "---:|" * len(units)
    for (name,), steps in list(rows.items())[:_LARGEST]:
        behind = [_cells(steps.get(step, Amount()), units) for step in STEPS]
        yield f"| {_plain(name)} | {' | '.join(map(ARROW.join, zip(*behind, strict=True)))} |"
    if len(rows) > _LARGEST:
        yield f"| and {len(rows) - _LARGEST:,} more, see corpus.json |" + " |" * len(units)


def _cells(amount: Amount, units: tuple[str, ...]) -> list[str]:
    return [f"{getattr(amount, unit):,}" for unit in units]


def _example(examples: list[list[str]]) -> str:
    return f"`{_short(examples[0][1])}`" if examples else ""


def _short(text: str) -> str:
    return _plain(text)[:_EXAMPLE_CHARACTERS]


def _plain(text: str) -> str:
    """Fit for a cell of a table."""
    return " ".join(text.replace("|", "¦").replace("`", "'").split())
