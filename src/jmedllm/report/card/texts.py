"""Sections of the model card on training data: the corpus, and the examples of stage 2."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from jmedllm.corpus.documents import Document
from jmedllm.evaluation.benchmarks import BENCHMARKS
from jmedllm.recipe import MpeftConfig, Recipe
from jmedllm.report.markdown import bullets, table

_MOST_SOURCES = 20
"""Number of sources with separate rows; others are summed by language and licence, so that every licence is named."""


def corpus(
    documents: Iterable[Document],
    held_out: Mapping[str, int],
    built: Mapping[str, Mapping[str, Any]],
    stages: Mapping[str, Mapping[str, Any]],
) -> str:
    """Format the corpus by source and licence, and what was removed from it; see `Findings`."""
    size, count = Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()
    for document in documents:
        kind = (document.source or "unnamed", document.language or "unknown", document.license or "**unknown**")
        size[kind] += len(document.text.encode())
        count[kind] += 1
    if not count:
        return "None: the model was tuned on questions and instructions only."
    shown = set(sorted(size, key=lambda kind: (-size[kind], kind))[:_MOST_SOURCES])
    rows: list[tuple[str, ...]] = [(*kind, f"{count[kind]:,}", f"{size[kind]:,}") for kind in sorted(shown)]
    rest = sorted(size.keys() - shown)
    for language, licence in sorted({kind[1:] for kind in rest}):
        alike = [kind for kind in rest if kind[1:] == (language, licence)]
        amounts = [f"{sum(counts[kind] for kind in alike):,}" for counts in (count, size)]
        rows.append((f"smaller sources: {len(alike):,}", language, licence, *amounts))
    read = table(("Source", "Language", "Licence", "Documents", "UTF-8 bytes"), rows)
    return "\n\n".join([read, *_held_out(held_out, count.total()), *_epochs(stages), _removed(built)])


def _held_out(held_out: Mapping[str, int], trained: int) -> list[str]:
    kept_out = sum(held_out.values())
    if not kept_out:
        return []
    every = kept_out + trained
    return [
        f"Held-out documents, not trained on: {kept_out:,} of {every:,}, {kept_out / every:.1%} ({_counts(held_out)})."
    ]


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _epochs(stages: Mapping[str, Mapping[str, Any]]) -> list[str]:
    epochs = {name: times for stage in stages.values() for name, times in stage["outputs"].get("epochs", {}).items()}
    most_read = sorted(epochs.items(), key=lambda item: -item[1])[:_MOST_SOURCES]
    counts = ", ".join(f"{name} {times:g} times" for name, times in most_read)
    more = f" and {len(epochs) - len(most_read):,} others less often" if len(epochs) > len(most_read) else ""
    return [f"Read in stage 1: {counts}{more}."] if counts else []


def _removed(built: Mapping[str, Mapping[str, Any]]) -> str:
    if not built:
        return "It is unknown what was removed earlier, because the inputs were not made by `jmedllm corpus build`."
    rows = [
        (name, *(f"{n:,}" for n in (*_repeats(text), text["emptied"], text["read_errors"])))
        for name, text in built.items()
    ]
    lines = [
        f"Removed from the {name} for {exam}: {found['places']:,} places that contain {found['items']:,} of its items"
        for name, text in built.items()
        for exam, found in text["contaminated"].items()
    ]
    searched: dict[str, list[str]] = {}
    for name, text in built.items():
        exams = ", ".join(f"{exam} ({count:,} items)" for exam, count in text["questions"].items())
        searched.setdefault(exams or "no exam; contamination was not checked", []).append(name)
    lines += [f"Checked against the {' and the '.join(names)}: {exams}" for exams, names in searched.items()]
    head = ("Documents left out of the", "Duplicates", "Near-duplicates", "Empty after cleaning", "Not readable")
    return f"{table(head, rows)}\n\n{bullets(lines)}"


def _repeats(text: Mapping[str, Any]) -> tuple[int, int]:
    return text["duplicates"]["exact"], text["duplicates"]["near"]


def examples(recipe: Recipe, stages: Mapping[str, Mapping[str, Any]]) -> str:
    """Format the questions and instructions on which the stages were trained."""
    found = [
        _examples(section, stages[name]["outputs"]) for name, section in recipe if isinstance(section, MpeftConfig)
    ]
    return "\n".join(found) or "None: the model has no stage 2."


def _examples(section: MpeftConfig, made: Mapping[str, Any]) -> str:
    lines = [
        f"{source.benchmark} ({', '.join(source.languages)}; split {source.split}), "
        f"licence: {_licence(source.benchmark)}"
        for source in section.questions
    ]
    lines += [f"Instructions {name}, licence: **unknown**" for name in section.instructions]
    dropped = f"; left out as too long: {made['dropped']:,}" if "dropped" in made else ""
    lines.append(f"Examples: {made['examples']:,}{dropped}")
    for name, left_out in made.get("left_out", {}).items():
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        lines.append(f"Left out of {name}: {reasons}")
    lines.append("Before training all were compared with every exam item on disk: none of them is an exam item")
    return bullets(lines)


def _licence(benchmark: str) -> str:
    return BENCHMARKS[benchmark].licence if benchmark in BENCHMARKS else "**unknown**"
