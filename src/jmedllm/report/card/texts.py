"""Texts that the cards share, and the sections on training data: the corpus, and the examples of the stages."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jmedllm.corpus.documents import Document
from jmedllm.markdown import bullets, table
from jmedllm.recipe import Recipe

WARNING = (
    "This model is software for research. **It is not a medical device**, it was not tested on patients, and it "
    "must not be used to diagnose, treat or advise anyone. A model that passes a licence exam is not a doctor."
)

LIMITS = (
    "Benchmarks measure knowledge in multiple choice, not safety, judgement or care.",
    "The model writes fluent text that can be wrong, without any sign of it.",
    "Medical knowledge changes; the model does not know anything published after its training texts.",
    "The training data of its base model is not known here and may include benchmark items.",
    "Scores apply to the languages, prompts and items named here; their intervals do not include the seed.",
)

_UNKNOWN = "unknown"
_MOST_SOURCES = 20
"""Number of sources with separate rows; others are summed by language and licence, so that every licence is named."""


def base_line(recipe: Recipe) -> str:
    """Return the base of a run in one line."""
    base = recipe.base
    if base.random_init:
        return f"Base: randomly initialized: {_plain(base.random_init.model_dump())}"
    revision = base.revision or "as found on disk; the fingerprint identifies its content"
    weights = "; its quantized weights were loaded in bfloat16" if base.dequantize else ""
    return f"Base: {base.path}, revision {revision}{weights}"


def _plain(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())


@dataclass(frozen=True, slots=True)
class Sources:
    """Number of documents and of UTF-8 bytes of a corpus by source, language and licence."""

    documents: Counter[tuple[str, str, str]]
    bytes: Counter[tuple[str, str, str]]

    @property
    def languages(self) -> set[str]:
        """Languages, as far as they are known."""
        return {language for _, language, _ in self.documents} - {_UNKNOWN}


def count_sources(documents: Iterable[Document]) -> Sources:
    """Count the documents of a corpus, which are read once."""
    found = Sources(Counter(), Counter())
    for document in documents:
        kind = (document.source or "unnamed", document.language or _UNKNOWN, document.license or "**unknown**")
        found.bytes[kind] += len(document.text.encode())
        found.documents[kind] += 1
    return found


def corpus(
    sources: Sources,
    held_out: Mapping[str, int],
    built: Mapping[str, Mapping[str, Any]],
    stages: Mapping[str, Mapping[str, Any]],
) -> str:
    """Format the corpus by source and licence, and what was removed from it; see `Findings`."""
    size, count = sources.bytes, sources.documents
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
        f"Removed from the {name} for {benchmark}: {found['places']:,} places that contain "
        f"{found['items']:,} of its items"
        for name, text in built.items()
        for benchmark, found in text["contaminated"].items()
    ]
    searched: dict[str, list[str]] = {}
    for name, text in built.items():
        benchmarks = ", ".join(f"{benchmark} ({count:,} items)" for benchmark, count in text["questions"].items())
        searched.setdefault(benchmarks or "no benchmark; contamination was not checked", []).append(name)
    lines += [f"Checked against the {' and the '.join(names)}: {benchmarks}" for benchmarks, names in searched.items()]
    head = ("Documents left out of the", "Duplicates", "Near-duplicates", "Empty after cleaning", "Not readable")
    return f"{table(head, rows)}\n\n{bullets(lines)}"


def _repeats(text: Mapping[str, Any]) -> tuple[int, int]:
    return text["duplicates"]["exact"], text["duplicates"]["near"]


def examples(lines: Sequence[str]) -> str:
    """Format the lines of the stages about the questions and instructions that they were trained on."""
    return bullets(lines) or "None: no stage was trained on questions or instructions."
