"""The work on one part: read and clean it, and, once duplicates are known, decontaminate it.

The files of a part are named by its number. Each is written atomically, the report last: a step that has a report is
done and is not repeated.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from jmedllm.corpus.cleaning.clean import Cleaned, clean
from jmedllm.corpus.contamination_index import ContaminationIndex, load_index
from jmedllm.corpus.decontaminate import Hit, cut, find, removed
from jmedllm.corpus.dedup import Signature, signature
from jmedllm.corpus.documents import Document, as_line, as_row
from jmedllm.corpus.language import language
from jmedllm.corpus.pipeline.counts import Amount, Counts
from jmedllm.corpus.pipeline.survey import CorpusPart
from jmedllm.corpus.readers.inputs import Skipped, file_of
from jmedllm.corpus.readers.reader import read
from jmedllm.files import atomic_file, read_json, to_json, write_atomic

EXAMPLES = 5
"""Examples of each cleaning rule in the report of a part."""

EXAMPLE_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class WorkDir:
    """The folder of the parts, and what every process needs.

    Attributes:
        field: the key of the text in lines of JSON.
        tokenizer: a tokenizer.json to count tokens with.
        index: file of the contamination index. Its name depends on the questions.
    """

    folder: Path
    field: str
    tokenizer: Path | None
    index: Path

    def file(self, number: int, ending: str) -> Path:
        """Return a file of a part."""
        return self.folder / f"{number:05d}.{ending}"


def prepare(job: tuple[int, CorpusPart], work_dir: WorkDir) -> None:
    """Read and clean a part, and compute the signatures of its documents, in order."""
    number, part = job
    counts, cleaning, errors, emptied = Counts(), _Cleaning(), [], []
    read_from: dict[str, list[int]] = {}
    count = _counter(work_dir.tokenizer)
    with (
        atomic_file(work_dir.file(number, "cleaned.jsonl")) as texts,
        atomic_file(work_dir.file(number, "signatures")) as signatures,
    ):
        for found in (each for byte_range in part for each in read(byte_range, work_dir.field)):
            if isinstance(found, Skipped):
                errors.append([found.where, found.reason])
                continue
            amounts = read_from.setdefault(file_of(found.where), [0, 0])
            amounts[0] += 1
            amounts[1] += len(found.text)
            cleaned = clean(found.text)
            cleaning.add(found, cleaned)
            tag = language(cleaned.text)
            counts.add("read", found, tag, Amount(1, len(found.text), count(found.text)))
            if not cleaned.text:
                emptied.append(found.where)
                continue
            document = replace(found, text=cleaned.text, language=tag, title=clean(found.title or "").text or None)
            tokens = count(document.text)
            counts.add("clean", document, tag, Amount(1, len(document.text), tokens))
            texts.write(_line(as_row(document) | {"where": document.where, "tokens": tokens}))
            signed = signature(document.text)
            signatures.write(f"{(signed.exact + signed.least).hex()}\n".encode())
    report = {
        "counts": counts.rows(),
        "read": read_from,
        "errors": errors,
        "emptied": emptied,
        "cleaning": cleaning.report(),
    }
    write_atomic(work_dir.file(number, "cleaned.json"), to_json(report) + "\n")


def finish(number: int, work_dir: WorkDir) -> None:
    """Remove the duplicates of a part, and cut benchmark questions out of it."""
    duplicates = read_json(work_dir.file(number, "duplicates.json"))
    index = _index(work_dir.index)
    counts, contaminated, kept_from = Counts(), [], Counter[str]()
    count = _counter(work_dir.tokenizer)
    with atomic_file(work_dir.file(number, "finished.jsonl")) as texts:
        for position, (document, tokens) in enumerate(_cleaned(work_dir.file(number, "cleaned.jsonl"))):
            if str(position) in duplicates:
                continue
            tag = document.language or "other"
            counts.add("deduplicate", document, tag, Amount(1, len(document.text), tokens))
            hits = find(index, document.text)
            contaminated += [
                {"where": document.where, "text": text, "questions": [_named(document, hit) for hit in inside]}
                for text, inside in removed(document.text, hits)
            ]
            pieces = cut(document.text, hits) if hits else [document.text]
            for order, piece in enumerate(pieces, 1):
                kept = replace(document, text=piece, id=f"{document.id}#{order}" if hits else document.id)
                amount = Amount(1, len(piece), count(piece) if hits else tokens)
                counts.add("decontaminate", document, tag, amount)
                texts.write(as_line(kept))
                kept_from[file_of(document.where)] += 1
    report = {"kept": kept_from, "counts": counts.rows(), "contaminated": contaminated}
    write_atomic(work_dir.file(number, "finished.json"), to_json(report) + "\n")


def _named(document: Document, hit: Hit) -> dict[str, str]:
    """Return a hit, with the words that were found."""
    found = document.text[hit.start : hit.end]
    return {"benchmark": hit.benchmark, "question": hit.question, "text": found}


def signatures(path: Path) -> Iterator[Signature]:
    """Yield the signatures of a part's documents, in order."""
    with path.open(encoding="ascii") as lines:
        for line in lines:
            signed = bytes.fromhex(line)
            yield Signature(signed[:16], signed[16:])


def places(path: Path) -> Iterator[str]:
    """Yield where each document of a part was read from."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["where"]


def _cleaned(path: Path) -> Iterator[tuple[Document, int]]:
    """Yield the documents of a part, each with its number of tokens."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            value = json.loads(line)
            yield (
                Document(
                    value["id"], value["text"], value["lang"], value["source"], value["license"], value["title"],
                    value["where"],
                ),
                value["tokens"],
            )  # fmt: skip


def _line(value: dict[str, Any]) -> bytes:
    return (to_json(value) + "\n").encode()


class _Cleaning:
    """Text that the rules removed from a part, with examples."""

    def __init__(self) -> None:
        self.pieces: Counter[str] = Counter()
        self.characters: Counter[str] = Counter()
        self.examples: dict[str, dict[str, str]] = {}

    def add(self, document: Document, cleaned: Cleaned) -> None:
        for rule, text in cleaned.removed:
            self.pieces[rule] += 1
            self.characters[rule] += len(text)
            shown = self.examples.setdefault(rule, {})
            if len(shown) < EXAMPLES:
                shown.setdefault(text[:EXAMPLE_CHARACTERS], document.where)

    def report(self) -> dict[str, Any]:
        return {
            rule: {
                "pieces": self.pieces[rule],
                "characters": self.characters[rule],
                "examples": [[where, text] for text, where in self.examples[rule].items()],
            }
            for rule in sorted(self.pieces)
        }


@lru_cache(maxsize=1)
def _index(path: Path) -> ContaminationIndex:
    return load_index(path)


@lru_cache(maxsize=1)
def _counter(tokenizer: Path | None) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text, without special ones; 0 if there is no tokenizer."""
    if tokenizer is None:
        return lambda text: 0
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(tokenizer))
    loaded.no_truncation()
    # The batch call skips offsets, which take as long as the ids.
    return lambda text: len(loaded.encode_batch_fast([text], add_special_tokens=False)[0].ids)
